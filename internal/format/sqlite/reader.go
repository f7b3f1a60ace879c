// Package sqlite reads a table from a SQLite database file and writes tables into one.
//
// A database from elsewhere is hostile input: it is opened read-only and as one file
// that nobody changes, its schema is not trusted to run anything (no views, virtual
// tables, triggers, extensions or computed columns), and no value or row may be
// larger than the limits. What is written keeps every digit: a number is bound as a
// double only where that is the same decimal value, and the same table gives the
// same bytes.
package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	driver "modernc.org/sqlite" // and its name "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
)

// Options say how a database is read.
type Options struct {
	Table string       // empty: the only table that there is
	Pool  *stream.Pool // lends the batches; nil: one of its own
}

// Limits of a database that is read.
const (
	maxRow     = format.MaxCell + 1<<20 // bytes, of a value as well
	maxSQL     = 1 << 20                // of a table's definition
	maxTables  = 10000
	shownNames = 20
	firstRow   = 2 // the header counts as a row
)

// magic begins a database file.
const magic = "SQLite format 3\x00"

// Reader gives the rows of a table, in the order in which they are stored.
type Reader struct {
	pool    *stream.Pool
	db      *sql.DB
	conn    *sql.Conn
	rows    *sql.Rows
	columns []column
	values  []any
	scan    []any
	notes   []string
	row     int64
	text    []byte
	blobs   bool
	err     error // what the next call gives
}

// column is one that is read.
type column struct {
	name    string
	boolean bool
	json    bool
	kind    stream.Kind         // of texts that moment takes
	moment  *tableschema.Caster // nil: texts are texts
}

func unsupported(form string, args ...any) error {
	return &format.Error{Code: format.CodeFormat, Message: fmt.Sprintf(form, args...)}
}

// fault gives an error of SQLite as the file's fault, where it is.
func fault(err error, row int64) error {
	e, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return err
	}
	message := "the SQLite file is damaged: " + e.Error()
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL:
		return err
	case sqlite3.SQLITE_TOOBIG:
		message = fmt.Sprintf("a row has more than %d bytes", maxRow)
	}
	return &format.Error{Code: format.CodeSource, Row: row, Message: message}
}

// caught turns a panic into the file's fault: the engine is C that was translated by
// machine, and a file that is made to break it must not end the process.
func caught(err *error, row int64) {
	if v := recover(); v != nil {
		*err = &format.Error{Code: format.CodeSource, Row: row, Message: fmt.Sprintf("the SQLite file is damaged: %v", v)}
	}
}

// NewReader opens a table of a database file. Its error is an [format.Error] where
// the file or the table's name is to blame. The reader ends with ctx.
func NewReader(ctx context.Context, path string, o Options) (r *Reader, err error) {
	head := make([]byte, len(magic))
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	n, err := io.ReadFull(f, head)
	beside := Beside(f)
	f.Close()
	if err != nil && n == len(head) {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if beside != nil {
		return nil, beside
	}
	if string(head[:n]) != magic {
		return nil, unsupported("this is no SQLite file")
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	r = &Reader{pool: o.Pool, row: firstRow}
	if r.pool == nil {
		r.pool = &stream.Pool{}
	}
	defer func() {
		if err != nil {
			_ = r.Close()
			r = nil
		}
	}()
	defer caught(&err, 0)
	if err = r.open(ctx, path); err == nil {
		err = r.start(ctx, o.Table)
	}
	return r, fault(err, 0)
}

func (r *Reader) open(ctx context.Context, path string) error {
	// immutable: neither a lock nor a log beside the file is looked for.
	q := url.Values{
		"mode": {"ro"}, "immutable": {"1"}, "_defensive": {"1"}, "_dqs": {"0"},
		"_pragma": {"trusted_schema(0)", "query_only(1)", "cell_size_check(1)", "mmap_size(0)", "cache_size(-4096)"},
	}
	name := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	var err error
	if r.db, err = sql.Open("sqlite", name.String()); err != nil {
		return err
	}
	r.db.SetMaxOpenConns(1)
	if r.conn, err = r.db.Conn(ctx); err != nil {
		return err
	}
	for id, most := range map[int]int{
		sqlite3.SQLITE_LIMIT_LENGTH:        maxRow,
		sqlite3.SQLITE_LIMIT_SQL_LENGTH:    maxSQL,
		sqlite3.SQLITE_LIMIT_ATTACHED:      0,
		sqlite3.SQLITE_LIMIT_EXPR_DEPTH:    100,
		sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
	} {
		if _, err := driver.Limit(r.conn, id, most); err != nil {
			return err
		}
	}
	return nil
}

// start finds the table and begins to read it.
func (r *Reader) start(ctx context.Context, table string) error {
	kind, err := r.find(ctx, &table)
	if err != nil {
		return err
	}
	if kind != "table" {
		return unsupported("%q is a %s, which is not read, for it runs what the file says; put its rows into a table", table, kind)
	}
	if err := r.describe(ctx, table); err != nil {
		return err
	}
	// A plus before a name keeps the value and drops the declared type, by which
	// the driver would turn texts into times. Without an index the rows come as
	// they are stored.
	var query strings.Builder
	for i, c := range r.columns {
		query.WriteString([]string{", ", "SELECT "}[b2i(i == 0)] + "+" + quoted(c.name))
	}
	query.WriteString(" FROM main." + quoted(table) + " NOT INDEXED")
	if r.rows, err = r.conn.QueryContext(ctx, query.String()); err != nil {
		return err
	}
	r.values, r.scan = make([]any, len(r.columns)), make([]any, len(r.columns))
	for i := range r.values {
		r.scan[i] = &r.values[i]
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// quoted makes a name of SQL.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// find gives the kind of a table. No name is the only table's.
func (r *Reader) find(ctx context.Context, table *string) (kind string, err error) {
	rows, err := r.conn.QueryContext(ctx, `SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name LIMIT $1`, maxTables)
	if err != nil {
		return "", err
	}
	defer func() { _ = rows.Close() }()
	var names []string
	for rows.Next() {
		var name, is string
		if err := rows.Scan(&name, &is); err != nil {
			return "", err
		}
		if name == *table {
			kind = is
		}
		if is == "table" {
			names = append(names, name)
		}
	}
	if err := rows.Err(); err != nil {
		return "", err
	}
	switch {
	case kind != "":
		return kind, nil
	case len(names) == 0:
		return "", unsupported("the SQLite file has no table")
	case *table == "" && len(names) == 1:
		*table = names[0]
		return "table", nil
	}
	more := ""
	if n := len(names); n > shownNames {
		names, more = names[:shownNames], fmt.Sprintf(" and %d more", n-shownNames)
	}
	for i, n := range names {
		names[i] = strconv.Quote(n)
	}
	there := strings.Join(names, ", ") + more
	if *table == "" {
		return "", unsupported("the SQLite file has several tables; say which one with the dialect's `table`: %s", there)
	}
	return "", unsupported("the SQLite file has no table %q; it has %s", *table, there)
}

func (r *Reader) describe(ctx context.Context, table string) error {
	rows, err := r.conn.QueryContext(ctx, `SELECT name, type, hidden FROM pragma_table_xinfo($1) ORDER BY cid`, table)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var computed []string
	for rows.Next() {
		var name, declared string
		var hidden int
		if err := rows.Scan(&name, &declared, &hidden); err != nil {
			return err
		}
		if !utf8.ValidString(name) {
			return &format.Error{Code: format.CodeEncoding, Message: fmt.Sprintf("the column name %q is not UTF-8", name)}
		}
		if hidden == 2 {
			computed = append(computed, strconv.Quote(name))
			continue
		}
		c, err := newColumn(name, declared)
		if err != nil {
			return err
		}
		r.columns = append(r.columns, c)
	}
	if len(computed) > 0 {
		r.notes = append(r.notes, "columns that are computed when they are read are left out: "+strings.Join(computed, ", "))
	}
	if len(r.columns) == 0 && rows.Err() == nil {
		return unsupported("the table %q has no columns", table)
	}
	return rows.Err()
}

func newColumn(name, declared string) (column, error) {
	c := column{name: name}
	fieldType := ""
	switch d := strings.ToUpper(declared); d {
	case "BOOLEAN", "BOOL":
		c.boolean = true
	case "DATE":
		fieldType, c.kind = "date", stream.Date
	case "TIME":
		fieldType, c.kind = "time", stream.Time
	case "DATETIME", "TIMESTAMP":
		fieldType, c.kind = "datetime", stream.Datetime
	case "JSON":
		c.json = true
	}
	if fieldType == "" {
		return c, nil
	}
	s, err := tableschema.Parse(map[string]any{"fields": []any{map[string]any{"name": name, "type": fieldType}}})
	if err == nil {
		c.moment, err = s.Caster(0, tableschema.CastOptions{})
	}
	return c, err
}

// Header gives the names of the columns.
func (r *Reader) Header() ([]string, error) {
	labels := make([]string, len(r.columns))
	for i, c := range r.columns {
		labels[i] = strings.TrimSpace(c.name)
	}
	return labels, nil
}

// Encoding is empty: the format has one of its own.
func (r *Reader) Encoding() string { return "" }

// Notes say what was read otherwise than it lies in the file.
func (r *Reader) Notes() []string {
	if r.blobs {
		return append(slices.Clone(r.notes), "binary values are given as base64")
	}
	return r.notes
}

// Close closes the database.
func (r *Reader) Close() (err error) {
	defer caught(&err, 0)
	if r.rows != nil {
		_ = r.rows.Close() // it was only read
	}
	if r.conn != nil {
		_ = r.conn.Close()
	}
	if r.db != nil {
		return r.db.Close()
	}
	return nil
}

// Next gives the next rows (see [format.Reader]).
func (r *Reader) Next() (*stream.Batch, error) {
	b := r.pool.Get()
	for r.err == nil && !b.Full() {
		if r.err = r.readRow(b); r.err != nil {
			b.DropRow()
		}
	}
	if b.Rows() > 0 {
		return b, nil // the next call gives the error
	}
	b.Release()
	return nil, r.err
}

// readRow appends the next row.
func (r *Reader) readRow(b *stream.Batch) (err error) {
	defer caught(&err, r.row)
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return fault(err, r.row)
		}
		return io.EOF
	}
	if err := r.rows.Scan(r.scan...); err != nil {
		return fault(err, r.row)
	}
	size := 0
	for i, v := range r.values {
		kind, err := r.cell(&r.columns[i], v)
		if err != nil {
			return err
		}
		if len(r.text) > format.MaxCell {
			return &format.Error{Code: format.CodeFormat, Row: r.row, Message: fmt.Sprintf("column %q has a value of %d bytes, more than the limit of %d", r.columns[i].name, len(r.text), format.MaxCell)}
		}
		if size += len(r.text); size > 2*format.MaxCell {
			return &format.Error{Code: format.CodeFormat, Row: r.row, Message: fmt.Sprintf("the row has more than %d bytes", 2*format.MaxCell)}
		}
		b.AppendKind(kind, r.text)
	}
	b.EndRow(r.row)
	r.row++
	return nil
}

// cell puts a value into r.text.
func (r *Reader) cell(c *column, v any) (stream.Kind, error) {
	r.text = r.text[:0]
	if cap(r.text) > stream.MaxBytes {
		r.text = nil
	}
	switch v := v.(type) {
	case nil:
		return stream.Null, nil
	case int64:
		if c.boolean && (v == 0 || v == 1) {
			r.text = strconv.AppendBool(r.text, v == 1)
			return stream.Boolean, nil
		}
		r.text = strconv.AppendInt(r.text, v, 10)
		return stream.Integer, nil
	case float64:
		switch {
		case math.IsInf(v, 1):
			r.text = append(r.text, "INF"...)
		case math.IsInf(v, -1):
			r.text = append(r.text, "-INF"...)
		default:
			r.text = strconv.AppendFloat(r.text, v, 'g', -1, 64)
		}
		return stream.Number, nil
	case string:
		if !utf8.ValidString(v) {
			return stream.Text, &format.Error{Code: format.CodeEncoding, Row: r.row, Message: fmt.Sprintf("column %q holds a text that is not UTF-8", c.name)}
		}
		r.text = append(r.text, v...)
		if c.json && len(v) > 0 && (v[0] == '{' || v[0] == '[') {
			return stream.JSON, nil
		}
		if c.moment != nil {
			if text, null, err := c.moment.Cast(r.text); err == nil && !null && bytes.Equal(text, r.text) {
				return c.kind, nil
			}
		}
		return stream.Text, nil
	case []byte:
		r.blobs = true
		r.text = base64.StdEncoding.AppendEncode(r.text, v)
		return stream.Text, nil
	}
	return stream.Text, fmt.Errorf("sqlite: a value of type %T", v)
}
