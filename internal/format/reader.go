package format

import (
	"fmt"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/stream"
)

// Reader gives the rows of a table that lies in a file. It judges nothing: what a
// row lacks or has too much is for the caller to say.
type Reader interface {
	// Header gives the labels of the columns, white space round them cut. It is nil
	// where the table has no header; a file without any row gives io.EOF.
	Header() ([]string, error)
	// Next gives the next rows, which are numbered as they stand in the file, from 1
	// with the header counted. The end is io.EOF; an [Error] says why the file
	// cannot be read on, and comes behind the rows before it. The caller releases the
	// batch.
	Next() (*stream.Batch, error)
	// Encoding is the one that a text file was read in so far; empty for others.
	Encoding() string
	// Notes say what was read otherwise than declared.
	Notes() []string
	// Close frees what the reader holds, and not what it reads from.
	Close() error
}

// Writer writes a table into a file.
type Writer interface {
	// WriteBatch writes the rows of a batch; each has a cell for every field, in
	// the default form of its type.
	WriteBatch(*stream.Batch) error
	// Close ends the file. It does not close what is written to.
	Close() error
}

// The codes of an [Error], those of frictionless v5.
const (
	CodeSource   = "source-error"
	CodeFormat   = "format-error"
	CodeEncoding = "encoding-error"
)

// Limits of a table that hold for every format.
const (
	MaxColumns = 16384
	MaxCell    = 64 << 20 // bytes
)

// Error says why a file cannot be read on.
type Error struct {
	Code    string
	Row     int64  // physical, from 1; 0 where no row is to blame
	Message string // for the owner
}

// Error gives the message with its row.
func (e *Error) Error() string {
	if e.Row > 0 {
		return fmt.Sprintf("row %d: %s", e.Row, e.Message)
	}
	return e.Message
}

// Unwrap makes it an Invalid error with its own text as the detail.
func (e *Error) Unwrap() error { return errs.New(errs.Invalid, "format", "%s", e.Error()) }
