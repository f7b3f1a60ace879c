package engine

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrorList writes what is wrong with tables as CSV (RFC 4180), for spreadsheets: a row
// an error, and a row of the code "note" for what is worth knowing besides.
type ErrorList struct{ w *csv.Writer }

// NewErrorList writes the header: resource, row, column, field, code, message, cell.
// Rows and columns count from 1; they are blank where none is to blame.
func NewErrorList(w io.Writer) (*ErrorList, error) {
	l := &ErrorList{csv.NewWriter(w)}
	l.w.UseCRLF = true
	return l, l.w.Write([]string{"resource", "row", "column", "field", "code", "message", "cell"})
}

// Add adds an error of a resource.
func (l *ErrorList) Add(resource string, p Problem) error {
	return l.w.Write([]string{inert(resource), number(p.Row), number(int64(p.Column)), inert(p.Field), p.Code, p.Message, inert(p.Cell)})
}

// Note adds something worth knowing that is no error.
func (l *ErrorList) Note(resource, message string) error {
	return l.Add(resource, Problem{Code: "note", Message: message})
}

// Flush writes what was held back. It gives the first error of writing.
func (l *ErrorList) Flush() error {
	l.w.Flush()
	return l.w.Error()
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// inert keeps a spreadsheet from taking a text of a stranger's for a formula: it gets
// an apostrophe before it, which spreadsheets take for the mark of a text.
func inert(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// ErrorsOfReport writes the errors of a published report as CSV, table by table.
func ErrorsOfReport(w io.Writer, report io.Reader) error {
	list, err := NewErrorList(w)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(report)
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("engine.ErrorsOfReport: %w", errors.Join(errors.New("the report is no array"), err))
	}
	for dec.More() {
		var entry reportEntry
		if err := dec.Decode(&entry); err != nil {
			return fmt.Errorf("engine.ErrorsOfReport: %w", err)
		}
		for _, t := range entry.Tables {
			for _, e := range t.Errors {
				p := Problem{Code: e.Code, Message: e.Message, Field: e.Field, Cell: e.Cell}
				if e.Row != nil {
					p.Row = *e.Row
				}
				if e.Column != nil {
					p.Column = *e.Column
				}
				if err := list.Add(entry.Resource, p); err != nil {
					return err
				}
			}
		}
		for _, note := range entry.Warnings {
			if err := list.Note(entry.Resource, note); err != nil {
				return err
			}
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("engine.ErrorsOfReport: %w", err)
	}
	return list.Flush()
}
