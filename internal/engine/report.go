package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"github.com/datahq/specstore/internal/format/tables"
)

// reportEntry is the report of one table, in the form of goodtables 1.5 that
// the site reads. Times are 0: two runs give the same bytes.
type reportEntry struct {
	Time       int           `json:"time"`
	Valid      bool          `json:"valid"`
	ErrorCount int64         `json:"error-count"`
	TableCount int           `json:"table-count"`
	Tables     []reportTable `json:"tables"`
	Warnings   []string      `json:"warnings"`
	Preset     string        `json:"preset"`
	Resource   string        `json:"resource"`
}

type reportTable struct {
	Time       int              `json:"time"`
	Valid      bool             `json:"valid"`
	ErrorCount int64            `json:"error-count"`
	Counts     map[string]int64 `json:"error-counts,omitempty"`
	RowCount   int64            `json:"row-count"`
	Source     string           `json:"source"`
	Headers    []string         `json:"headers"`
	Scheme     string           `json:"scheme"`
	Format     string           `json:"format"`
	Encoding   string           `json:"encoding"`
	Schema     *string          `json:"schema"`
	Errors     []reportError    `json:"errors"`
}

type reportError struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Row     *int64   `json:"row-number"`
	Column  *int     `json:"column-number"`
	Cells   []string `json:"row"`
	Field   string   `json:"field,omitempty"`
	Cell    string   `json:"cell,omitempty"`
}

// publishedCodes are the codes of the vocabulary that readers of published
// reports know.
var publishedCodes = map[string]string{
	codeBlankLabel: "blank-header", codeDuplicateLabel: "duplicate-header", codeIncorrectLabel: "non-matching-header",
	codeExtraLabel: "extra-header", codeMissingLabel: "missing-header",
	codeExtraCell: "extra-value", codeMissingCell: "missing-value", codeType: "type-or-format-error",
	codeUnique: "unique-constraint", codePrimaryKey: "unique-constraint",
}

var publishedConstraints = map[string]string{
	"required": "required-constraint", "pattern": "pattern-constraint", "unique": "unique-constraint", "enum": "enumerable-constraint",
	"minimum": "minimum-constraint", "maximum": "maximum-constraint",
	"exclusiveMinimum": "minimum-constraint", "exclusiveMaximum": "maximum-constraint",
	"minLength": "minimum-length-constraint", "maxLength": "maximum-length-constraint",
}

func publishedCode(p Problem) string {
	if c, ok := publishedConstraints[p.Constraint]; ok && p.Code == codeConstraint {
		return c
	}
	if c, ok := publishedCodes[p.Code]; ok {
		return c
	}
	return p.Code
}

// report publishes the validation report over the tables of the flow.
func (r *run) report(ctx context.Context, n *node) (*Result, error) {
	s, err := newSpool(r.Temp)
	if err != nil {
		return nil, err
	}
	defer s.close()
	n.parts = map[string]string{}
	w := &reportWriter{w: s}
	for _, t := range n.tables {
		n.parts[t.name()] = r.inputsOfTable(t)
		if t.told != nil {
			n.logf("%s: as in the report of an earlier flow", t.name())
			err = w.add(t.told)
		} else {
			n.logf("%s: %d rows, %s", t.name(), t.rows.Load(), t.verdict())
			for _, note := range t.problems.Notes[:min(len(t.problems.Notes), maxNotes)] {
				n.logf("%s: note: %s", t.name(), note)
				n.notes = append(n.notes, t.name()+": "+note)
			}
			err = w.add(t.entry())
		}
		if err != nil {
			return nil, err
		}
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	return r.publish(ctx, n, []made{{n.pkg.Resources[0].Descriptor, s, nil}})
}

// reportWriter writes a report, one JSON array, entry by entry.
type reportWriter struct {
	w       io.Writer
	entries int
}

func (w *reportWriter) add(entry any) error {
	var b bytes.Buffer
	b.WriteByte("[,"[min(w.entries, 1)])
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(entry); err != nil {
		return err
	}
	w.entries++
	_, err := w.w.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return err
}

func (w *reportWriter) close() error {
	end := "]\n"
	if w.entries == 0 {
		end = "[]\n"
	}
	_, err := io.WriteString(w.w, end)
	return err
}

func (t *table) verdict() string {
	if t.problems.Total == 0 {
		return "no errors"
	}
	return t.problems.summary()
}

func (t *table) entry() reportEntry {
	table := reportTable{
		RowCount: t.rows.Load(), Source: t.source.info.Name, Headers: t.labels, Scheme: t.source.info.Scheme,
		Format: t.sourceFormat(), Encoding: t.encoding,
	}
	return reportOf(t.name(), table, t.schema != nil, t.problems)
}

// reportOf completes the report of a table with what is wrong with it.
func reportOf(name string, table reportTable, schema bool, p *Problems) reportEntry {
	table.Valid, table.ErrorCount, table.Counts, table.Errors = p.Total == 0, p.Total, p.Counts, []reportError{}
	if table.Headers != nil {
		table.RowCount++ // the header counts
	}
	if schema {
		name := "table-schema"
		table.Schema = &name
	}
	for _, problem := range p.First {
		e := reportError{Code: publishedCode(problem), Message: problem.Message, Cells: problem.Cells, Field: problem.Field, Cell: problem.Cell}
		if problem.Row > 0 {
			e.Row = &problem.Row
		}
		if problem.Column > 0 {
			e.Column = &problem.Column
		}
		table.Errors = append(table.Errors, e)
	}
	warnings := append([]string{}, p.Notes...)
	if p.Total > int64(len(p.First)) {
		warnings = append(warnings, "only the first 1,000 errors are listed; all are counted")
	}
	return reportEntry{
		Valid: table.Valid, ErrorCount: p.Total, TableCount: 1, Tables: []reportTable{table},
		Warnings: warnings, Preset: "table", Resource: name,
	}
}

// Report validates tables as [Validate] does, and gives the report on them as it is
// published: one JSON array, an entry a table. What is wrong with a table is in the
// report; the error is one of the machine.
func Report(ctx context.Context, temp string, tables []TableInput) ([]byte, error) {
	reports, err := Validate(ctx, temp, tables)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := &reportWriter{w: &b}
	for i, r := range reports {
		in := tables[i]
		path, _ := in.Resource["path"].(string)
		table := reportTable{
			RowCount: r.Rows, Source: path, Headers: r.labels, Scheme: "file", Format: formatName(in), Encoding: r.encoding,
		}
		if err := w.add(reportOf(in.name(), table, in.Resource["schema"] != nil, &r.Problems)); err != nil {
			return nil, err
		}
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func formatName(in TableInput) string { return tables.FormatOf(in.Resource, in.Format) }
