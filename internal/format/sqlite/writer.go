package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

const (
	maxColumns = 2000 // of SQLite, as it is built
	// Values bound by one statement. More gain nothing.
	maxBound = 512
)

// Write adds a table to the database file at path, which is made where there is
// none. rows is called twice: the first time to see which values columns hold, for
// the types that keep each of them. The cells are in the default form of their
// type. The notes say what is kept otherwise than the schema says.
//
// A column of numbers is REAL where all of them are doubles, else it has no type.
// Integers and numbers that fit neither 64 bits nor a double exactly are kept as
// text, so that no digit is lost; booleans are 0 and 1; all else is text. Nothing is
// logged for a roll-back: after an error the file is of no use.
func Write(ctx context.Context, path, table string, schema *tableschema.Schema, rows func() iter.Seq2[*stream.Batch, error]) (notes []string, err error) {
	const op = "sqlite.Write"
	switch {
	case len(schema.Fields) > maxColumns:
		return nil, errs.New(errs.Invalid, op, "a table of SQLite has at most %d columns, and this one has %d", maxColumns, len(schema.Fields))
	case len(schema.Fields) == 0:
		return nil, errs.New(errs.Invalid, op, "a table of SQLite needs a column")
	case strings.HasPrefix(strings.ToLower(table), "sqlite_") || table == "" || strings.ContainsRune(table, 0):
		return nil, errs.New(errs.Invalid, op, "a table of SQLite cannot have the name %q", table)
	}
	w := &writer{columns: make([]target, len(schema.Fields))}
	for i, f := range schema.Fields {
		w.columns[i] = target{fieldType: f.Type, kind: kindOf(f.Type)}
	}
	w.name(schema)
	if err := w.measure(ctx, rows()); err != nil {
		return nil, err
	}
	for i, f := range schema.Fields {
		if c := &w.columns[i]; c.texts > 0 {
			w.notes = append(w.notes, fmt.Sprintf("field %q: %d values that SQLite's numbers do not hold as they are stay as text", f.Name, c.texts))
		}
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	// Whatever is not used of a page is zero (secure_delete), so that the bytes
	// depend on the rows alone.
	q := url.Values{"_pragma": {
		"page_size(4096)", "encoding('UTF-8')", "auto_vacuum(0)", "journal_mode(OFF)", "synchronous(OFF)",
		"locking_mode(EXCLUSIVE)", "secure_delete(1)", "cache_size(-8192)", "temp_store(2)", "mmap_size(0)",
	}}
	name := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	db.SetMaxOpenConns(1)
	err = w.write(ctx, db, table, schema, rows())
	if closed := db.Close(); err == nil && closed != nil {
		err = fmt.Errorf("%s: %w", op, closed)
	}
	return w.notes, err
}

// storage is how the values of a column are bound.
type storage uint8

const (
	asText storage = iota
	asInteger
	asNumber
	asBoolean
	asYear
)

func kindOf(fieldType string) storage {
	switch fieldType {
	case "integer":
		return asInteger
	case "year":
		return asYear
	case "number":
		return asNumber
	case "boolean":
		return asBoolean
	}
	return asText
}

// target is a column that is written.
type target struct {
	name      string
	fieldType string
	kind      storage
	texts     int64 // numbers that must be text
	others    int64 // numbers that are no doubles
}

type writer struct {
	columns []target
	notes   []string
}

// name gives the columns names that SQLite can tell apart: it does not see the case
// of ASCII letters, and no name holds a NUL.
func (w *writer) name(schema *tableschema.Schema) {
	used := map[string]bool{}
	for _, f := range schema.Fields {
		used[lower(f.Name)] = true
	}
	taken := map[string]bool{}
	for i, f := range schema.Fields {
		name := strings.ReplaceAll(f.Name, "\x00", "")
		for n := 2; taken[lower(name)] || name != f.Name && used[lower(name)]; n++ {
			name = strings.ReplaceAll(f.Name, "\x00", "") + "_" + strconv.Itoa(n)
		}
		taken[lower(name)] = true
		w.columns[i].name = name
		if name != f.Name {
			w.notes = append(w.notes, fmt.Sprintf("field %q is the column %q, for SQLite takes its name for another's", f.Name, name))
		}
	}
}

func lower(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func (w *writer) measure(ctx context.Context, rows iter.Seq2[*stream.Batch, error]) error {
	for b, err := range rows {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		for c := range w.columns {
			kind := w.columns[c].kind
			if kind == asText || kind == asBoolean {
				continue
			}
			for r := range b.Rows() {
				if b.Null(r, c) {
					continue
				}
				switch bind(kind, b.Cell(r, c)).(type) {
				case string:
					w.columns[c].texts++
				case int64:
					w.columns[c].others++
				}
			}
		}
	}
	return nil
}

// declared is a column's type. SQLite converts what is put into a column by the
// words in its type; a column of numbers that are text has no type, and keeps what
// it is given.
func (c *target) declared(onlyKey bool) string {
	switch c.kind {
	case asInteger, asYear:
		switch {
		case c.texts > 0:
			return ""
		case onlyKey:
			return " BIGINT" // as INTEGER it would be the row's number, and order the rows
		}
		return " INTEGER"
	case asNumber:
		if c.texts+c.others > 0 {
			return "" // a number column would round them
		}
		return " REAL"
	case asBoolean:
		return " BOOLEAN"
	default: // of the others there is nothing to say
	}
	switch c.fieldType {
	case "date", "time", "datetime": // none looks like a number, so that it stays text
		return " " + strings.ToUpper(c.fieldType)
	}
	return " TEXT"
}

func (w *writer) create(table string, schema *tableschema.Schema) string {
	var q strings.Builder
	q.WriteString("CREATE TABLE " + quoted(table) + " (")
	key := schema.PrimaryKeyColumns()
	for i := range w.columns {
		c := &w.columns[i]
		if i > 0 {
			q.WriteString(", ")
		}
		q.WriteString(quoted(c.name) + c.declared(len(key) == 1 && key[0] == i))
		if slices.Contains(key, i) {
			q.WriteString(" NOT NULL")
		}
	}
	if len(key) > 0 {
		names := make([]string, len(key))
		for i, k := range key {
			names[i] = quoted(w.columns[k].name)
		}
		q.WriteString(", PRIMARY KEY (" + strings.Join(names, ", ") + ")")
	}
	q.WriteString(")")
	return q.String()
}

func (w *writer) insert(table string, rows int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", len(w.columns)), ", ") + ")"
	return "INSERT INTO " + quoted(table) + " VALUES " + strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}

func (w *writer) write(ctx context.Context, db *sql.DB, table string, schema *tableschema.Schema, rows iter.Seq2[*stream.Batch, error]) (err error) {
	const op = "sqlite.Write"
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	var there string
	err = tx.QueryRowContext(ctx, `SELECT name FROM sqlite_schema WHERE name = $1 COLLATE NOCASE`, table).Scan(&there)
	switch {
	case err == nil:
		return errs.New(errs.Invalid, op, "the tables %q and %q cannot both be in a SQLite database, which sees no difference in case: give one another name", there, table)
	case !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%s: %w", op, err)
	}
	if _, err := tx.ExecContext(ctx, w.create(table, schema)); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	perStatement := max(1, maxBound/len(w.columns))
	many, err := tx.PrepareContext(ctx, w.insert(table, perStatement))
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer func() { _ = many.Close() }()
	args := make([]any, 0, perStatement*len(w.columns))
	size := 0
	for b, err := range rows {
		if err != nil {
			return err
		}
		for r := range b.Rows() {
			for c := range w.columns {
				if b.Null(r, c) {
					args = append(args, nil)
					continue
				}
				cell := b.Cell(r, c)
				size += len(cell)
				args = append(args, bind(w.columns[c].kind, cell))
			}
			if len(args) == cap(args) {
				if _, err := many.ExecContext(ctx, args...); err != nil {
					return fmt.Errorf("%s: %w", op, err)
				}
				args, size = args[:0], 0
			} else if size > stream.MaxBytes { // rows of large cells are not held back
				if err := w.rest(ctx, tx, table, args); err != nil {
					return err
				}
				args, size = args[:0], 0
			}
		}
	}
	if err := w.rest(ctx, tx, table, args); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// rest inserts fewer rows than a prepared statement takes.
func (w *writer) rest(ctx context.Context, tx *sql.Tx, table string, args []any) error {
	if len(args) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, w.insert(table, len(args)/len(w.columns)), args...); err != nil {
		return fmt.Errorf("sqlite.Write: %w", err)
	}
	return nil
}

// bind gives the value that is stored for a cell.
func bind(kind storage, cell []byte) any {
	switch kind {
	case asYear: // of four digits, which a number has from 1000
		if len(cell) > 0 && cell[0] == '0' {
			return string(cell)
		}
		fallthrough
	case asInteger:
		if n, err := strconv.ParseInt(string(cell), 10, 64); err == nil {
			return n
		}
	case asBoolean:
		if string(cell) == "true" {
			return int64(1)
		}
		return int64(0)
	case asNumber:
		return bindNumber(string(cell))
	default: // of the others there is nothing to say
	}
	return string(cell)
}

func bindNumber(text string) any {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case math.IsNaN(f):
		return "NaN" // SQLite has no NaN: it would be no value
	case math.IsInf(f, 0) && err == nil:
		return f
	case err == nil && sameDecimal(text, strconv.FormatFloat(f, 'e', -1, 64)):
		return f
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	return text
}

// sameDecimal reports whether two numbers are the same decimal value.
func sameDecimal(a, b string) bool {
	da, ea, na := significant(a)
	db, eb, nb := significant(b)
	return da == db && (da == "" || ea == eb && na == nb)
}

// significant gives a number as digits without zeros on either side, times ten to
// the exponent; nothing is zero. A number that it cannot take is its own text.
func significant(s string) (digits string, exponent int, negative bool) {
	whole := s
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.Atoi(s[i+1:])
		if err != nil {
			return whole, 0, negative
		}
		s, exponent = s[:i], e
	}
	if i := strings.IndexByte(s, '.'); i >= 0 {
		exponent -= len(s) - i - 1
		s = s[:i] + s[i+1:]
	}
	s = strings.TrimLeft(s, "0")
	n := len(s)
	s = strings.TrimRight(s, "0")
	return s, exponent + n - len(s), negative
}
