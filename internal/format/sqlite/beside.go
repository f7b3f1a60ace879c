package sqlite

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/datahq/specstore/internal/format"
)

// What stands beside a database that is not whole: a write-ahead log whose frames were
// not all copied into it, and the journal of a transaction that never ended (File Format,
// sections 3 and 4). Neither travels with the file.
const (
	walHead      = 32 // bytes of a log without frames
	journalMagic = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
)

// Beside is a [format.Error] where a file is a database and a log or journal beside it
// has changes that the file has not.
func Beside(f *os.File) error {
	head := make([]byte, len(magic))
	if n, err := f.ReadAt(head, 0); n < len(head) || string(head) != magic {
		if err != nil && err != io.EOF {
			return fmt.Errorf("sqlite: %w", err)
		}
		return nil
	}
	path := f.Name()
	if where, err := filepath.EvalSymlinks(path); err == nil {
		path = where
	}
	if info, err := os.Stat(path + "-wal"); err == nil && info.Mode().IsRegular() && info.Size() > walHead {
		return &format.Error{Code: format.CodeSource, Message: fmt.Sprintf("the database is not whole: there are changes in %s-wal beside it; close the program that has it open, or run `PRAGMA wal_checkpoint(TRUNCATE)` on it", filepath.Base(path))}
	}
	if hot(path + "-journal") {
		return &format.Error{Code: format.CodeSource, Message: fmt.Sprintf("the database is not whole: %s-journal beside it is of a transaction that has not ended; open the database once with SQLite, which mends it", filepath.Base(path))}
	}
	return nil
}

// hot reports whether a journal has something to roll back: one that was used up is
// empty, or begins with zeros.
func hot(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	j, err := os.Open(path)
	if err != nil {
		return info.Size() > 0
	}
	defer j.Close()
	head := make([]byte, len(journalMagic))
	_, err = io.ReadFull(j, head)
	return err == nil && bytes.Equal(head, []byte(journalMagic))
}
