// Package format holds what the file formats share: how a CSV file says that it
// is written (the dialect), and how bytes become text.
//
// A declared property is obeyed and never second-guessed; what is not declared is
// found out from the bytes. Text that leaves this package is valid UTF-8.
package format

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Dialect says how a CSV file is written (CSV Dialect 1.2; Table Dialect 2 names
// are known as well).
type Dialect struct {
	Delimiter        string
	QuoteChar        string // empty: no quoting
	EscapeChar       string // empty: none
	LineTerminator   string // CR, LF and CRLF end a row alike; another character does so in their place
	DoubleQuote      bool
	SkipInitialSpace bool
	Header           bool
	HeaderRows       []int  // from 1; empty means the first row
	HeaderJoin       string // between the labels of several header rows
	CommentRows      []int  // numbers of rows that are dropped, ascending
	CommentChar      string // rows that begin with it are dropped; empty: none
	SkipRows         int    // rows dropped before the header
	NullSequence     string // stands for no value, as a missing value of the schema does: readers give it as it is
}

// Default is the dialect of a file that declares one without saying anything.
func Default() Dialect {
	return Dialect{Delimiter: ",", QuoteChar: `"`, LineTerminator: "\r\n", DoubleQuote: true, Header: true, HeaderJoin: " "}
}

// UnknownKeys are the keys of a dialect that no reader knows, sorted.
func UnknownKeys(dialect map[string]any) []string {
	var unknown []string
	for _, key := range slices.Sorted(maps.Keys(dialect)) {
		if !slices.Contains(dialectKeys(), key) {
			unknown = append(unknown, key)
		}
	}
	return unknown
}

// dialectKeys are those of CSV Dialect 1.2, Table Dialect 2, and of tools whose
// descriptors are read.
func dialectKeys() []string {
	return []string{
		"$schema", "name", "title", "description", "type", "csvddfVersion", "csvddf_version", "caseSensitiveHeader",
		"delimiter", "quoteChar", "escapeChar", "doubleQuote", "skipInitialSpace", "lineTerminator", "nullSequence",
		"header", "headerRows", "headerJoin", "headerCase", "commentRows", "commentChar", "skipRows", "decimalChar", "groupChar",
		"property", "itemType", "itemKeys", "keyed", "sheet", "sheetName", "sheetNumber", "excel", "table", "innerpath", "innerPath",
	}
}

// Problem is something that is wrong with a descriptor, at a JSON pointer.
type Problem struct{ Pointer, Message string }

// ParseDialect reads a dialect object. What it does not say has the standard's
// default; unknown keys are ignored.
func ParseDialect(v map[string]any) (Dialect, []Problem) {
	p := dialectParser{v: v}
	d := Default()
	p.text("delimiter", 8, &d.Delimiter)
	p.text("quoteChar", 4, &d.QuoteChar)
	p.text("escapeChar", 4, &d.EscapeChar)
	p.text("lineTerminator", 8, &d.LineTerminator)
	p.text("commentChar", 8, &d.CommentChar)
	p.text("nullSequence", 64, &d.NullSequence)
	p.text("headerJoin", 8, &d.HeaderJoin)
	p.boolean("doubleQuote", &d.DoubleQuote)
	p.boolean("skipInitialSpace", &d.SkipInitialSpace)
	p.boolean("header", &d.Header)
	if v := v["skipRows"]; v != nil {
		n, whole := integer(v)
		if !whole || n < 0 {
			p.problem("skipRows", "must be a whole number, from 0")
		}
		d.SkipRows = max(n, 0)
	}
	d.HeaderRows = p.rows("headerRows")
	d.CommentRows = p.rows("commentRows")
	if d.Delimiter == "" {
		p.problem("delimiter", "must not be empty")
	}
	if strings.ContainsAny(d.Delimiter, "\r\n") {
		p.problem("delimiter", "must not be a line end")
	}
	for _, c := range []struct{ key, value string }{{"quoteChar", d.QuoteChar}, {"escapeChar", d.EscapeChar}} {
		switch {
		case len(c.value) > 1:
			p.problem(c.key, "must be one ASCII character")
		case c.value == "\r" || c.value == "\n":
			p.problem(c.key, "must not be a line end")
		case c.value != "" && strings.HasPrefix(d.Delimiter, c.value):
			p.problem(c.key, "must differ from the delimiter")
		}
	}
	switch t := d.LineTerminator; {
	case strings.Trim(t, "\r\n") == "":
	case len(t) > 1 || t[0] >= utf8.RuneSelf || t[0] == 0:
		p.problem("lineTerminator", "must be CR, LF, CR LF or one ASCII character")
	case t == d.QuoteChar || t == d.EscapeChar || strings.Contains(d.Delimiter, t):
		p.problem("lineTerminator", "must differ from delimiter, quoteChar and escapeChar")
	}
	return d, p.problems
}

type dialectParser struct {
	v        map[string]any
	problems []Problem
}

func (p *dialectParser) problem(key, format string, args ...any) {
	p.problems = append(p.problems, Problem{"/" + key, fmt.Sprintf(format, args...)})
}

func (p *dialectParser) text(key string, most int, to *string) {
	switch v := p.v[key].(type) {
	case nil:
		if _, ok := p.v[key]; ok && (key == "quoteChar" || key == "escapeChar" || key == "commentChar" || key == "nullSequence") {
			*to = ""
		}
	case string:
		if len(v) > most {
			p.problem(key, "must be at most %d bytes", most)
			return
		}
		*to = v
	default:
		p.problem(key, "must be a text")
	}
}

// rows reads a list of row numbers.
func (p *dialectParser) rows(key string) []int {
	v, ok := p.v[key]
	if !ok || v == nil {
		return nil
	}
	list, ok := v.([]any)
	var rows []int
	for _, r := range list {
		n, whole := integer(r)
		ok = ok && whole && n >= 1 && (len(rows) == 0 || n > rows[len(rows)-1])
		rows = append(rows, n)
	}
	const most = 1000
	if !ok || len(rows) > most || key == "headerRows" && len(rows) > 0 && rows[len(rows)-1] > most {
		p.problem(key, "must be a list of at most %d row numbers, from 1, ascending", most)
		return nil
	}
	return rows
}

func (p *dialectParser) boolean(key string, to *bool) {
	switch v := p.v[key].(type) {
	case nil:
	case bool:
		*to = v
	default:
		p.problem(key, "must be true or false")
	}
}

// integer reads a JSON number that is a whole one.
func integer(v any) (int, bool) {
	switch v := v.(type) {
	case int:
		return v, true
	case float64:
		return int(v), v == float64(int(v))
	case json.Number:
		n, err := v.Int64()
		return int(n), err == nil
	}
	return 0, false
}
