package sqlite_test

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/sqlite"
)

// TestBeside: a database is refused while a log or a journal beside it has changes that
// it has not, and read where that has none.
func TestBeside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	live := filepath.Join(dir, "live.db")
	db, err := sql.Open("sqlite", live)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range []string{"PRAGMA journal_mode=WAL", "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(path, says string) {
		t.Helper()
		_, err := sqlite.NewReader(t.Context(), path, sqlite.Options{})
		if e, ok := errors.AsType[*format.Error](err); !ok || e.Code != format.CodeSource || !strings.Contains(e.Message, says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	read := func(path string) {
		t.Helper()
		r, err := sqlite.NewReader(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		_ = r.Close()
	}
	refused(live, "live.db-wal")
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink(live, link); err != nil {
		t.Fatal(err)
	}
	refused(link, "live.db-wal")
	if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	read(live)

	body, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	magic := []byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
	for _, c := range []struct {
		name, ending string
		beside       []byte
		says         string // empty: it is read
	}{
		{"an empty log", "-wal", nil, ""},
		{"a log without frames", "-wal", make([]byte, 32), ""},
		{"a log with frames", "-wal", make([]byte, 32+24+4096), "c.sqlite-wal"},
		{"a hot journal", "-journal", append(magic, make([]byte, 504)...), "c.sqlite-journal"},
		{"a journal that was used up", "-journal", make([]byte, 512), ""},
		{"an empty journal", "-journal", nil, ""},
	} {
		path := filepath.Join(t.TempDir(), "c.sqlite")
		if err := errors.Join(os.WriteFile(path, body, 0o600), os.WriteFile(path+c.ending, bytes.Clone(c.beside), 0o600)); err != nil {
			t.Fatal(err)
		}
		if c.says == "" {
			read(path)
		} else {
			refused(path, c.says)
		}
	}
}
