package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// fold is the pipelines as the revision keeps them: an object by ID, as the
// original's, with what is ours beside.
func fold(list []*row) (string, error) {
	m := make(map[string]*row, len(list))
	for _, p := range list {
		if p.Errors == nil {
			p.Errors = []string{}
		}
		m[p.ID] = p
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// unfold reads what fold wrote. What is JSON in it stays as it is and shares the memory
// of folded. That was written as JSON, so it is not checked again: of what is no JSON it
// may make anything, but no panic.
func unfold(folded []byte) ([]*row, error) {
	if len(folded) == 0 {
		return nil, nil
	}
	var list []*row
	var rows []row         // of one allocation
	text := string(folded) // which the strings share
	if _, err := members(folded, 0, func(from, to, i int) (int, error) {
		if i < len(folded) && folded[i] == 'n' { // null
			return valueEnd(folded, i), nil
		}
		if len(rows) == cap(rows) {
			rows = make([]row, 0, 8)
		}
		rows = append(rows, row{ID: unquote(text[from:to])})
		p := &rows[len(rows)-1]
		list = append(list, p)
		return members(folded, i, func(from, to, i int) (int, error) {
			end := valueEnd(folded, i)
			return end, p.member(text[from:to], text[i:end], folded[i:end:end])
		})
	}); err != nil {
		return nil, fmt.Errorf("registry: a revision's pipelines cannot be read: %w", err)
	}
	slices.SortStableFunc(list, func(a, b *row) int {
		if a.Position != b.Position {
			return int(a.Position - b.Position)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

var errNoObject = errors.New("no object")

// members calls each with where the quoted name of each member of the object that begins
// at i begins and ends, and where its value begins; each gives where that ends. It gives
// where the object ends.
func members(b []byte, i int, each func(from, to, i int) (end int, err error)) (end int, err error) {
	if i = blank(b, i); i == len(b) || b[i] != '{' {
		return i, errNoObject
	}
	if i = blank(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for i < len(b) {
		from, to := i, valueEnd(b, i)
		if i = blank(b, to); i == len(b) || b[i] != ':' {
			return i, errNoObject
		}
		if i, err = each(from, to, blank(b, i+1)); err != nil {
			return i, err
		}
		if i = blank(b, i); i < len(b) && b[i] == '}' {
			return i + 1, nil
		}
		if i == len(b) || b[i] != ',' {
			return i, errNoObject
		}
		i = blank(b, i+1)
	}
	return i, errNoObject
}

// blank is where the white space that begins at i ends.
func blank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// valueEnd is where the value that begins at i ends.
func valueEnd(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i = textEnd(b, i+1); depth == 0 {
				return min(i+1, len(b))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return i // the value was a number or a word
			}
			if depth == 0 {
				return i + 1
			}
		case ',', ':', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// textEnd is where the quote is that ends the string whose text begins at i.
func textEnd(b []byte, i int) int {
	n := bytes.IndexByte(b[i:], '"')
	if n < 0 {
		return len(b)
	}
	if bytes.IndexByte(b[i:i+n], '\\') < 0 {
		return i + n
	}
	for ; i < len(b) && b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}

// member reads a member of a pipeline's entry, which is named as [row] says. Its value
// comes as a string and as bytes.
func (p *row) member(name, s string, v json.RawMessage) (err error) {
	if s == "null" {
		return nil
	}
	switch name {
	case `"title"`:
		p.Title = unquote(s)
	case `"status"`:
		p.State, err = ParseState(unquote(s))
	case `"stats"`:
		p.Stats = v
	case `"error_log"`:
		p.Errors = parseLines(s)
	case `"error_count"`:
		p.ErrorCount, err = strconv.ParseInt(s, 10, 64)
	case `"position"`:
		p.Position, err = strconv.ParseInt(s, 10, 64)
	case `"dependencies"`:
		p.Dependencies = parseLines(s)
	case `"started"`:
		p.Started, err = strconv.ParseInt(s, 10, 64)
	case `"finished"`:
		p.Finished, err = strconv.ParseInt(s, 10, 64)
	case `"progress"`:
		p.Progress = v
	case `"outputs"`:
		p.Outputs = v
	case `"reused"`:
		p.Reused = unquote(s)
	case `"logs"`:
		p.Logs = parseLines(s)
	}
	return err
}

// unquote is the text of a JSON string; of another value, as it is written.
func unquote(quoted string) string {
	if len(quoted) > 1 && quoted[0] == '"' && strings.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var s string
	if json.Unmarshal([]byte(quoted), &s) != nil {
		return quoted
	}
	return s
}
