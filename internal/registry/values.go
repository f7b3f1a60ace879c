package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/sqldb"
)

// storable reports whether a text can be in the database at all: PostgreSQL keeps UTF-8
// without NUL, and fails where it is asked for anything else.
func storable(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) || strings.Contains(s, "\x00") })
}

// keepable makes a text storable.
func keepable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}

func noRows(err error) bool { return errors.Is(err, sqldb.ErrNoRows) }

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func micros(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

// stored is JSON that was checked when it was written.
func stored(b []byte) json.RawMessage {
	if len(b) == 0 || string(b) == "null" {
		return nil
	}
	return b
}

func raw(s string) json.RawMessage {
	if s == "" || s == "null" || !json.Valid([]byte(s)) {
		return nil
	}
	return json.RawMessage(s)
}

// lines is a list of text as JSON, NULL for none.
func lines(list []string) any {
	if len(list) == 0 {
		return nil
	}
	b, err := json.Marshal(list)
	if err != nil { // text always can be written
		return nil
	}
	return string(b)
}

// plainLines reads a list of text without escapes, as it mostly is.
func plainLines(s string) (list []string, ok bool) {
	if len(s) < 4 || s[0] != '[' || strings.Contains(s, `\`) {
		return nil, false
	}
	list = make([]string, 0, strings.Count(s, `"`)/2)
	for rest := s[1:]; ; rest = rest[1:] {
		if len(rest) == 0 || rest[0] != '"' {
			return nil, false
		}
		line, after, ok := strings.Cut(rest[1:], `"`)
		if !ok || !utf8.ValidString(line) {
			return nil, false
		}
		list = append(list, line)
		switch after {
		case "":
			return nil, false
		case "]":
			return list, true
		}
		if rest = after; rest[0] != ',' {
			return nil, false
		}
	}
}

// parseLines reads a list of text; of what is no list of text it makes one, since
// the original kept what it was sent.
func parseLines(s string) []string {
	switch s {
	case "", "null":
		return nil
	case "[]":
		return []string{}
	}
	if list, ok := plainLines(s); ok {
		return list
	}
	var list []string
	if json.Unmarshal([]byte(s), &list) == nil {
		return list
	}
	var values []any
	if json.Unmarshal([]byte(s), &values) != nil {
		return []string{s}
	}
	for _, v := range values {
		list = append(list, fmt.Sprint(v))
	}
	return list
}
