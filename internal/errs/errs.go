// Package errs names the kinds of failure and carries them through the layers.
//
// A failure has three readers. Its [Kind] is for the edges, which turn it into
// an HTTP status or an exit code; its Detail is for the user and never holds a
// secret, a path of the server or a query; its cause is for the operator's log.
// An error that is not an [Error] is internal: users see "internal error".
package errs

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what sort of failure an error is. The zero value is Internal.
type Kind uint8

// The kinds of failure. The edges hold one table each that turns them into an
// HTTP status and into an exit code.
const (
	Internal     Kind = iota // a fault of ours or of the machine
	Invalid                  // what the user sent is wrong
	Unauthorized             // nobody that we know
	Forbidden                // somebody that we know, who may not
	NotFound                 // no such thing, or none that the asker may see
	Conflict                 // the state of the thing does not allow it
	TooLarge                 // over a limit of size
	Unavailable              // a part that we need does not answer; try again
)

// ErrUncertain is in the chain of a failure, of the kind [Unavailable], of which it is not
// known whether what was asked has been done.
var ErrUncertain = errors.New("not known whether it was done")

// ErrFull is in the chain of a failure, of the kind [Unavailable], that a disk without room
// is the cause of. Who holds room there and can give it back does so before trying again.
var ErrFull = errors.New("a disk is full")

var kindNames = [...]string{
	"internal error", "invalid", "unauthorized", "forbidden",
	"not found", "conflict", "too large", "unavailable",
}

// String gives the kind in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// Error is a failure of a known kind.
type Error struct {
	Kind   Kind
	Op     string // where it happened, for the log: "registry.Apply"
	Detail string // for the user: what is wrong, where, and what to do
	Err    error  // the cause, for the log; may be nil
}

// Error gives the whole text, cause included, for the log.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if e.Detail != "" {
		b.WriteString(e.Detail)
	} else {
		b.WriteString(e.Kind.String())
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind with a detail for the user.
func New(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Detail: fmt.Sprintf(format, args...)}
}

// Wrap makes an error of a kind with a detail for the user and a cause for the log.
func Wrap(err error, kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Detail: fmt.Sprintf(format, args...), Err: err}
}

// KindOf gives the kind of the first [Error] in the chain, [Internal] where there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of the kind. A nil error is of no kind.
func Is(err error, kind Kind) bool {
	return err != nil && KindOf(err) == kind
}

// Detail gives the text that a user may read: the detail of the first [Error]
// in the chain that has one, else the name of its kind.
func Detail(err error) string {
	if err == nil {
		return ""
	}
	for e := err; ; {
		known, ok := errors.AsType[*Error](e)
		if !ok {
			return KindOf(err).String()
		}
		if known.Detail != "" {
			return known.Detail
		}
		e = known.Err
		if e == nil {
			return known.Kind.String()
		}
	}
}
