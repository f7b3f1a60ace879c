// Package datapackage reads, checks and writes descriptors, the datapackage.json
// of the Data Package standard (https://datapackage.org/standard/data-package/).
//
// A descriptor is kept in the JSON value space (map[string]any, []any, string,
// json.Number, bool, nil), so that what is not known here travels along unchanged,
// numbers digit for digit. The package opens nothing.
package datapackage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/datahq/specstore/internal/errs"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a JSON document that a user supplies.
const (
	MaxBytes = 16 << 20
	MaxDepth = 100
)

// Decode reads one JSON object, strictly: UTF-8, no key twice, nothing behind it.
// Its error is Invalid and says the line and column (in bytes, from 1), or TooLarge.
func Decode(r io.Reader) (map[string]any, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("datapackage.Decode: %w", err)
	}
	return DecodeText(text, math.MaxInt)
}

// DecodeText reads as [Decode] does. What holds more values than most is TooLarge.
func DecodeText(text []byte, most int) (map[string]any, error) {
	v, err := decodeText(text, func(r *reader) (any, error) { return r.value(1) }, most)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errNoObject
	}
	return m, nil
}

// Texts checks a document as [DecodeText] does, without building it. It returns the texts
// that a member of the document, which is an object, has under some names.
func Texts(text []byte, most int, member string, names ...string) (map[string]string, error) {
	found := map[string]string{}
	isObject := false
	_, err := decodeText(text, func(r *reader) (any, error) {
		isObject = r.d.PeekKind() == '{'
		return nil, r.skip(1, func(name string) func(string, string) {
			if name != member {
				return nil
			}
			return func(name, value string) {
				if slices.Contains(names, name) {
					found[name] = value
				}
			}
		})
	}, most)
	if err == nil && !isObject {
		err = errNoObject
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

var errNoObject = errs.New(errs.Invalid, "datapackage.Decode", "the document must be a JSON object")

// decodeText reads the one value of a text.
func decodeText[T any](text []byte, read func(*reader) (T, error), most int) (v T, err error) {
	if len(text) > MaxBytes {
		return v, errs.New(errs.TooLarge, "datapackage.Decode", "the document is larger than %d MiB", MaxBytes>>20)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	d := jsontext.NewDecoder(bytes.NewBuffer(text)) // which is read in place
	v, err = read(&reader{d: d, left: most})
	if err == nil {
		if _, err = d.ReadToken(); err == io.EOF {
			return v, nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	var none T
	return none, refusal(text, d, err, most)
}

// refusal says why and where a text is no document.
func refusal(text []byte, d *jsontext.Decoder, err error, most int) error {
	at := d.InputOffset()
	reason := err.Error()
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		at, reason = e.ByteOffset, e.Err.Error()
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		reason = "a key is there twice"
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		reason = "the text ends too early"
	}
	line, column := position(text, at)
	switch {
	case errors.Is(err, errMany):
		return errs.New(errs.TooLarge, "datapackage.Decode", "line %d, column %d: the document holds more than %d values", line, column, most)
	case errors.Is(err, ErrDeep):
		return errs.New(errs.Invalid, "datapackage.Decode", "line %d, column %d: %s", line, column, reason)
	}
	return errs.Wrap(err, errs.Invalid, "datapackage.Decode", "not JSON: line %d, column %d: %s", line, column, reason)
}

func position(text []byte, at int64) (line, column int) {
	before := text[:min(at, int64(len(text)))]
	return bytes.Count(before, []byte{'\n'}) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// ErrDeep is a value that is nested deeper than [MaxDepth].
var ErrDeep = fmt.Errorf("the document is nested deeper than %d levels", MaxDepth)

var errMany = errors.New("too many values")

// ReadValue reads the next value of a decoder into the JSON value space. Of a key that
// is there twice, where the decoder allows it, the last one holds. Its error is the
// decoder's, or [ErrDeep].
func ReadValue(d *jsontext.Decoder) (any, error) {
	return (&reader{d: d, left: math.MaxInt}).value(1)
}

// reader reads values and counts them.
type reader struct {
	d    *jsontext.Decoder
	left int // how many values there may be yet
}

// token reads what a value begins with.
func (r *reader) token(depth int) (jsontext.Token, error) {
	if depth > MaxDepth {
		return jsontext.Token{}, ErrDeep
	}
	if r.left--; r.left < 0 {
		return jsontext.Token{}, errMany
	}
	return r.d.ReadToken()
}

func (r *reader) value(depth int) (any, error) {
	d := r.d
	t, err := r.token(depth)
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case 'n':
		return nil, nil
	case 't', 'f':
		return t.Bool(), nil
	case '"':
		return t.String(), nil
	case '0':
		return json.Number(t.String()), nil
	case '{':
		m := map[string]any{}
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String() // the token is valid until the next read
			if m[key], err = r.value(depth + 1); err != nil {
				return nil, err
			}
		}
		_, err := d.ReadToken()
		return m, err
	}
	list := []any{}
	for d.PeekKind() != ']' {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err = d.ReadToken()
	return list, err
}

// skip reads a value and builds nothing. For each member of an object enter returns what
// is given the texts in it by name; it and its results may be nil.
func (r *reader) skip(depth int, enter func(name string) func(name, value string)) error {
	return r.skipInto(depth, enter, nil)
}

func (r *reader) skipInto(depth int, enter func(string) func(string, string), text func(name, value string)) error {
	d := r.d
	t, err := r.token(depth)
	if err != nil {
		return err
	}
	end := jsontext.Kind(']')
	switch t.Kind() {
	case '{':
		end = '}'
	case '[':
		enter, text = nil, nil
	default:
		return nil
	}
	for d.PeekKind() != end {
		var within func(string, string)
		if end == '}' {
			name, err := d.ReadToken()
			if err != nil {
				return err
			}
			switch {
			case enter != nil:
				within = enter(name.String())
			case text != nil && d.PeekKind() == '"':
				key := name.String()
				value, err := r.token(depth + 1)
				if err != nil {
					return err
				}
				text(key, value.String())
				continue
			}
		}
		if err := r.skipInto(depth+1, nil, within); err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

// Encode writes a value as descriptors are written: two blanks an indent, keys
// sorted, characters as they are, no newline at the end. The same value gives
// the same bytes.
func Encode(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("datapackage.Encode: %w", err)
	}
	_, err := w.Write(bytes.TrimSuffix(b.Bytes(), []byte{'\n'}))
	return err
}

// Clone copies a value of the JSON value space, all levels.
func Clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[k] = Clone(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = Clone(item)
		}
		return out
	}
	return v
}
