// Package objstore keeps objects, which are sequences of bytes under a key.
//
// An object appears whole or not at all: what is written becomes readable with
// [Writer.Commit], which returns when the bytes would survive a loss of power.
// Until then readers see what was there before. A reader goes on reading the
// object it opened, also when that is replaced or deleted.
//
// Keys come from outside; every function checks them and refuses with
// [errs.Invalid] what [CheckKey] does not allow.
package objstore

import (
	"context"
	"io"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/errs"
)

// Limits of a key, in bytes: those of S3 and of the usual file systems.
const (
	MaxKey  = 1024
	MaxPart = 255
)

// reserved is the first part of the names that a store keeps for itself.
const reserved = "_tmp"

// Store keeps objects. Any number of goroutines may use it. A missing object is
// [errs.NotFound]; failures of the machine are internal, but a full one is
// [errs.Unavailable].
type Store interface {
	// Create starts an object that replaces what is under the key once it is
	// committed. Of several at once the last to commit stays. The context
	// bounds the whole writing.
	Create(ctx context.Context, key string) (Writer, error)
	// Import takes a finished local file as the object. The file is gone after
	// it; it stays when Import fails.
	Import(ctx context.Context, key, localPath string) error
	// Open opens an object for reading.
	Open(ctx context.Context, key string) (Object, error)
	// Stat describes an object.
	Stat(ctx context.Context, key string) (Info, error)
	// Delete removes an object. To delete what is not there is no error.
	Delete(ctx context.Context, key string) error
	// List gives the objects whose keys start with the prefix, in the order of
	// the bytes of their keys. An error is the last item. Objects that come or
	// go meanwhile may be given or not.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// Writer writes one object. It is for one goroutine, and must be committed or
// cancelled.
type Writer interface {
	io.Writer
	// Commit makes the object readable and durable. When it fails the writer is
	// cancelled.
	Commit() error
	// Cancel throws away what was written. After Commit it does nothing, so it
	// may be deferred.
	Cancel() error
}

// Object is an object that is open for reading. ReadAt may be used by several
// goroutines at once.
type Object interface {
	io.ReadSeekCloser
	io.ReaderAt
	Size() int64 // bytes
	ModTime() time.Time
}

// Info describes an object.
type Info struct {
	Key     string
	Size    int64 // bytes
	ModTime time.Time
}

// CheckKey says whether a key may be used: parts of UTF-8 with slashes between,
// at most [MaxKey] bytes long and each at most [MaxPart]. No part is empty, "."
// or ".."; there is no backslash and no control character; the first part is not "_tmp".
func CheckKey(key string) error {
	if reason := badKey(key); reason != "" {
		return errs.New(errs.Invalid, "objstore.CheckKey", "the key %.80q %s", key, reason)
	}
	return nil
}

func badKey(key string) string {
	switch {
	case key == "":
		return "is empty"
	case len(key) > MaxKey:
		return "is too long"
	case !utf8.ValidString(key):
		return "is not UTF-8"
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return "has a backslash or a control character"
	}
	first := true
	for part := range strings.SplitSeq(key, "/") {
		switch {
		case part == "":
			return "has an empty part"
		case part == "." || part == "..":
			return "has a part that is . or .."
		case len(part) > MaxPart:
			return "has a part that is too long"
		case first && strings.EqualFold(part, reserved):
			return "starts with a reserved name"
		}
		first = false
	}
	return ""
}
