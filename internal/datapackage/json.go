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
	if len(text) > MaxBytes {
		return nil, errs.New(errs.TooLarge, "datapackage.Decode", "the document is larger than %d MiB", MaxBytes>>20)
	}
	v, err := decodeText(text)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errs.New(errs.Invalid, "datapackage.Decode", "the document must be a JSON object")
	}
	return m, nil
}

func decodeText(text []byte) (any, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	d := jsontext.NewDecoder(bytes.NewReader(text))
	v, err := ReadValue(d)
	if err == nil {
		if _, err = d.ReadToken(); err == io.EOF {
			return v, nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
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
	if errors.Is(err, ErrDeep) {
		return nil, errs.New(errs.Invalid, "datapackage.Decode", "line %d, column %d: %s", line, column, reason)
	}
	return nil, errs.Wrap(err, errs.Invalid, "datapackage.Decode", "not JSON: line %d, column %d: %s", line, column, reason)
}

func position(text []byte, at int64) (line, column int) {
	before := text[:min(at, int64(len(text)))]
	return bytes.Count(before, []byte{'\n'}) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// ErrDeep is a value that is nested deeper than [MaxDepth].
var ErrDeep = fmt.Errorf("the document is nested deeper than %d levels", MaxDepth)

// ReadValue reads the next value of a decoder into the JSON value space. Of a key that
// is there twice, where the decoder allows it, the last one holds. Its error is the
// decoder's, or [ErrDeep].
func ReadValue(d *jsontext.Decoder) (any, error) { return readValue(d, 1) }

func readValue(d *jsontext.Decoder, depth int) (any, error) {
	if depth > MaxDepth {
		return nil, ErrDeep
	}
	t, err := d.ReadToken()
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
			if m[key], err = readValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := d.ReadToken()
		return m, err
	}
	list := []any{}
	for d.PeekKind() != ']' {
		v, err := readValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err = d.ReadToken()
	return list, err
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
