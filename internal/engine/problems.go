package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format"
)

// Limits of what is kept of the problems of one table. All are counted.
const (
	maxProblems = 1000
	maxCell     = 200 // bytes of a cell that a problem shows
	maxRow      = 64  // cells of a row that a problem shows
)

// The codes of problems, those of frictionless v5.
const (
	codeSource         = format.CodeSource
	codeSchema         = "schema-error"
	codeBlankLabel     = "blank-label"
	codeDuplicateLabel = "duplicate-label"
	codeIncorrectLabel = "incorrect-label"
	codeExtraLabel     = "extra-label"
	codeMissingLabel   = "missing-label"
	codeBlankRow       = "blank-row"
	codeExtraCell      = "extra-cell"
	codeMissingCell    = "missing-cell"
	codeType           = "type-error"
	codeConstraint     = "constraint-error"
	codeUnique         = "unique-error"
	codePrimaryKey     = "primary-key"
	codeForeignKey     = "foreign-key"
)

// Problem is one thing that is wrong with a table.
type Problem struct {
	Code       string   `json:"code"`
	Message    string   `json:"message"`
	Row        int64    `json:"row,omitempty"` // physical, header = 1; 0 where none is to blame
	Field      string   `json:"field,omitempty"`
	Cell       string   `json:"cell,omitempty"`
	Column     int      `json:"-"` // from 1; 0 where none is to blame
	Constraint string   `json:"-"` // the first that fails
	Cells      []string `json:"-"` // of the row
}

// Problems collects what is wrong with a table: the first thousand whole, all counted.
type Problems struct {
	First  []Problem
	Counts map[string]int64 // by code
	Total  int64
	// Notes are things worth knowing that are no error.
	Notes []string
}

func (p *Problems) add(problem Problem) {
	if p.Counts == nil {
		p.Counts = map[string]int64{}
	}
	p.Counts[problem.Code]++
	p.Total++
	if len(p.First) < maxProblems {
		problem.Cell = cut(problem.Cell)
		p.First = append(p.First, problem)
	}
}

// full says that a further problem is only counted, so its text need not be made.
func (p *Problems) full() bool { return len(p.First) >= maxProblems }

// fatal says that the table must not be published.
func (p *Problems) fatal() bool { return p.Total > 0 }

// sort brings what was found at the end, such as repeated keys, to its row.
func (p *Problems) sort() {
	slices.SortStableFunc(p.First, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Column, b.Column))
	})
}

// summary counts by code: "3 errors: 2 type-error, 1 missing-cell".
func (p *Problems) summary() string {
	codes := slices.SortedFunc(maps.Keys(p.Counts), func(a, b string) int {
		return cmp.Or(-cmp.Compare(p.Counts[a], p.Counts[b]), cmp.Compare(a, b))
	})
	parts := make([]string, len(codes))
	for i, code := range codes {
		parts[i] = fmt.Sprintf("%d %s", p.Counts[code], code)
	}
	noun := "errors"
	if p.Total == 1 {
		noun = "error"
	}
	return fmt.Sprintf("%d %s: %s", p.Total, noun, strings.Join(parts, ", "))
}

// lines is what the error log of a pipeline says of a table.
func (p *Problems) lines(table string) lines {
	const shown = 99 // an error log has at most a hundred lines
	l := lines{fmt.Sprintf("table %q has %s", table, p.summary())}
	for _, problem := range p.First[:min(shown, len(p.First))] {
		l = append(l, problem.text())
	}
	return l
}

func (p Problem) text() string {
	if p.Row > 0 {
		return fmt.Sprintf("row %d: %s (%s)", p.Row, p.Message, p.Code)
	}
	return fmt.Sprintf("%s (%s)", p.Message, p.Code)
}

// cut shortens a cell to what a problem shows.
func cut(cell string) string {
	if len(cell) <= maxCell {
		return cell
	}
	end := maxCell
	for end > 0 && !utf8.RuneStart(cell[end]) {
		end--
	}
	return cell[:end] + "…"
}
