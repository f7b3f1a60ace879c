package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
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

// unfold reads what fold, or the original, wrote. What is JSON in it stays as it is
// and shares the memory of folded.
func unfold(folded []byte) ([]*row, error) {
	if len(folded) == 0 {
		return nil, nil
	}
	r := reader{
		Decoder: jsontext.NewDecoder(bytes.NewBuffer(folded), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)),
		text:    folded,
	}
	var list []*row
	if err := r.object(func(id []byte) error {
		if r.PeekKind() == 'n' {
			return r.SkipValue()
		}
		p := &row{ID: unquote(id)}
		list = append(list, p)
		return r.object(func(name []byte) error { return r.member(p, string(name)) })
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

// reader reads JSON that is in memory.
type reader struct {
	*jsontext.Decoder
	text []byte
}

// value gives the next value as it is written.
func (r reader) value() (json.RawMessage, error) {
	v, err := r.ReadValue()
	if err != nil {
		return nil, err
	}
	// The decoder's slice is good until it reads on; that of the text stays.
	end := int(r.InputOffset())
	return r.text[end-len(v) : end : end], nil
}

// object calls each with the quoted name of each member, whose value it must read. null
// is an object without any.
func (r reader) object(each func(name []byte) error) error {
	start, err := r.ReadToken()
	if err != nil || start.Kind() == 'n' {
		return err
	}
	if start.Kind() != '{' {
		return fmt.Errorf("%s where an object is expected", start.Kind())
	}
	for r.PeekKind() != '}' {
		name, err := r.value()
		if err != nil {
			return err
		}
		if err := each(name); err != nil {
			return err
		}
	}
	_, err = r.ReadToken()
	return err
}

// member reads a member of a pipeline's entry, which is named as [row] says.
func (r reader) member(p *row, name string) (err error) {
	v, err := r.value()
	if err != nil || string(v) == "null" && name != `"error_log"` && name != `"logs"` {
		return err
	}
	switch name {
	case `"title"`:
		p.Title = unquote(v)
	case `"status"`:
		p.State, err = ParseState(unquote(v))
	case `"stats"`:
		p.Stats = v
	case `"error_log"`:
		p.Errors = parseLines(string(v))
	case `"error_count"`:
		p.ErrorCount, err = strconv.ParseInt(string(v), 10, 64)
	case `"position"`:
		p.Position, err = strconv.ParseInt(string(v), 10, 64)
	case `"dependencies"`:
		p.Dependencies = parseLines(string(v))
	case `"started"`:
		p.Started, err = strconv.ParseInt(string(v), 10, 64)
	case `"finished"`:
		p.Finished, err = strconv.ParseInt(string(v), 10, 64)
	case `"progress"`:
		p.Progress = v
	case `"outputs"`:
		p.Outputs = v
	case `"reused"`:
		p.Reused = unquote(v)
	case `"logs"`:
		p.Logs = parseLines(string(v))
	}
	return err
}

// unquote is the text of a JSON string; of another value, as it is written.
func unquote(quoted []byte) string {
	if len(quoted) > 1 && quoted[0] == '"' && bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	b, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return string(quoted)
	}
	return string(b)
}
