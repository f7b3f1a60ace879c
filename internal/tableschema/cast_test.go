package tableschema_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/tableschema"
	"github.com/datahq/specstore/internal/testkit"
)

// expectation is how a cell is to be read.
type expectation struct {
	Valid       bool            `json:"valid"`
	Value       json.RawMessage `json:"value"`
	Text        string          `json:"text"`
	Error       string          `json:"error"`
	Constraints []string        `json:"constraints"`
}

type castCase struct {
	ID            string                     `json:"id"`
	Field         map[string]any             `json:"field"`
	MissingValues []any                      `json:"missingValues"`
	Cell          *string                    `json:"cell"`
	Expect        *expectation               `json:"expect"`
	Follow        string                     `json:"follow"`
	Columns       map[string]json.RawMessage `json:"-"`
}

func decodeNumbers(t testing.TB, b []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
}

func lines(t *testing.T, file string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		out = append(out, slices.Clone(s.Bytes()))
	}
	return out
}

// disagree names the captured casts that are not followed, and why.
var disagree = map[string]string{
	"string-0732": "a final newline passes the pattern; eight other cases say that the standard refuses it",
}

// TestCastCases holds the casts against the captured ones.
func TestCastCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "cases", "cast"), "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	held, total := 0, 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jsonl")
		if name == "unique" {
			continue // whole tables: the engine's tests
		}
		t.Run(name, func(t *testing.T) {
			for _, line := range lines(t, file) {
				var c castCase
				decodeNumbers(t, line, &c)
				if name == "disputed" {
					decodeNumbers(t, line, &c.Columns)
					if c.Cell == nil || !slices.Contains([]string{"tableschema", "frictionless", "standard"}, c.Follow) {
						continue
					}
					decodeNumbers(t, c.Columns[c.Follow], &c.Expect)
				}
				total++
				if reason := disagree[c.ID]; reason != "" {
					t.Logf("%s: %s", c.ID, reason)
					continue
				}
				judged := &judge{TB: t}
				c.run(judged)
				if !judged.failed {
					held++
				}
			}
		})
	}
	t.Logf("%d of %d cases hold", held, total)
}

// judge remembers that a case failed.
type judge struct {
	testing.TB
	failed bool
}

func (j *judge) Errorf(format string, args ...any) {
	j.Helper()
	j.failed = true
	j.TB.Errorf(format, args...)
}

func (c *castCase) run(t testing.TB) {
	t.Helper()
	where := func() string { f, _ := json.Marshal(c.Field); return fmt.Sprintf("%s %s %q", c.ID, f, *c.Cell) }
	raw := map[string]any{"fields": []any{c.Field}}
	if c.MissingValues != nil {
		raw["missingValues"] = c.MissingValues
	}
	s, err := tableschema.Parse(raw)
	if err != nil {
		t.Errorf("%s: the schema is refused: %v", where(), err)
		return
	}
	caster, err := s.Caster(0, tableschema.CastOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, null, cellErr := caster.Cast([]byte(*c.Cell))
	switch {
	case !c.Expect.Valid:
		if cellErr == nil {
			t.Errorf("%s is read as %q, want %s", where(), text, c.Expect.Error)
			return
		}
		kind := map[tableschema.ErrorKind]string{tableschema.TypeError: "type-error", tableschema.ConstraintError: "constraint-error"}[cellErr.Kind]
		if kind != c.Expect.Error || c.Expect.Constraints != nil && !slices.Equal(slices.Sorted(slices.Values(cellErr.Constraints)), c.Expect.Constraints) {
			t.Errorf("%s: %s %v, want %s %v", where(), kind, cellErr.Constraints, c.Expect.Error, c.Expect.Constraints)
		}
	case cellErr != nil:
		t.Errorf("%s: %v, want %s", where(), cellErr, c.Expect.Value)
	default:
		var want, got any
		decodeNumbers(t, c.Expect.Value, &want)
		if !null {
			kind, _ := c.Field["type"].(string)
			got = logical(t, kind, c.Field, string(text))
		}
		if !equalValues(want, got) {
			t.Errorf("%s is %v (%q), want %v", where(), got, text, want)
		}
		if !null {
			again(t, where(), s, string(text))
		}
	}
}

// again casts what was written by the schema that describes it: the same value.
func again(t testing.TB, where string, s *tableschema.Schema, text string) {
	t.Helper()
	d := s.CanonicalDescriptor()
	if text == "" {
		return // empty text is a missing value in what is written
	}
	out, err := tableschema.Parse(d)
	if err != nil {
		t.Errorf("%s: the schema of the output is refused: %v", where, err)
		return
	}
	caster, err := out.Caster(0, tableschema.CastOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second, null, cellErr := caster.Cast([]byte(text))
	if (cellErr != nil || null) && strings.Contains(text, ".") && s.Fields[0].Type == "time" {
		return // the default form of a time has no fraction
	}
	if cellErr != nil && s.Fields[0].Type == "time" {
		return // nor a zone
	}
	if cellErr != nil || null || string(second) != text {
		t.Errorf("%s: written as %q it is read again as %q, null %v, %v", where, text, second, null, cellErr)
	}
	if b := caster.AppendJSON(nil, second); !json.Valid(b) {
		t.Errorf("%s: %q is no JSON", where, b)
	}
}

// logical turns text in default form into the JSON form of the cases.
func logical(t testing.TB, kind string, field map[string]any, text string) any {
	switch kind {
	case "number", "integer":
		if r, ok := new(big.Rat).SetString(text); ok && len(text) < 400 {
			return canonicalNumber(r)
		}
		return strings.Replace(strings.ToUpper(text), "NAN", "NaN", 1)
	case "boolean":
		return text == "true"
	case "year":
		return json.Number(string(bytes.TrimLeft([]byte(text[:3]), "0")) + text[3:])
	case "object", "array", "geojson":
		var v any
		decodeNumbers(t, []byte(text), &v)
		return v
	case "geopoint":
		lon, lat, _ := strings.Cut(text, ",")
		return []any{logical(t, "number", nil, strings.TrimSpace(lon)), logical(t, "number", nil, strings.TrimSpace(lat))}
	case "datetime", "time":
		return micros(text)
	case "duration":
		return durationValue(text)
	case "list":
		delimiter, _ := field["delimiter"].(string)
		if delimiter == "" {
			delimiter = ","
		}
		item, _ := field["itemType"].(string)
		out := []any{}
		if text == "" {
			return out
		}
		for part := range strings.SplitSeq(text, delimiter) {
			if item == "boolean" {
				part = map[string]string{"1": "true", "0": "false"}[part] + strings.ToLower(part)
				out = append(out, strings.Contains(part, "true"))
				continue
			}
			out = append(out, logical(t, item, nil, part))
		}
		return out
	}
	return text
}

func canonicalNumber(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	text := strings.TrimRight(r.FloatString(400), "0")
	return strings.TrimSuffix(text, ".")
}

// micros writes the fraction of a time with six digits, where it has one.
func micros(text string) string {
	dot := strings.IndexByte(text, '.')
	if dot < 0 {
		return utc(text)
	}
	end := dot + 1
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	fraction := (text[dot+1:end] + "000000")[:6]
	if fraction == "000000" {
		return utc(text[:dot] + text[end:])
	}
	return utc(text[:dot] + "." + fraction + text[end:])
}

func utc(text string) string {
	for _, zero := range []string{"+00:00", "-00:00"} {
		if rest, ok := strings.CutSuffix(text, zero); ok {
			return rest + "Z"
		}
	}
	return text
}

func durationValue(text string) any {
	neg := strings.HasPrefix(text, "-")
	text = strings.TrimPrefix(strings.TrimPrefix(text, "-"), "P")
	months, seconds := new(big.Rat), new(big.Rat)
	timed := false
	from := 0
	for i, c := range text {
		if c >= '0' && c <= '9' || c == '.' {
			continue
		}
		if c == 'T' {
			timed = true
			from = i + 1
			continue
		}
		n, _ := new(big.Rat).SetString(text[from:i])
		from = i + 1
		scale := map[string]int64{"Y": 12, "M": 1, "D": 86400, "tH": 3600, "tM": 60, "tS": 1}[map[bool]string{true: "t"}[timed]+string(c)]
		n.Mul(n, big.NewRat(scale, 1))
		if !timed && c != 'D' {
			months.Add(months, n)
		} else {
			seconds.Add(seconds, n)
		}
	}
	if neg {
		months.Neg(months)
		seconds.Neg(seconds)
	}
	return map[string]any{"months": canonicalNumber(months), "seconds": canonicalNumber(seconds)}
}

func equalValues(want, got any) bool {
	return reflect.DeepEqual(normal(want), normal(got))
}

// normal makes numbers of JSON comparable.
func normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		if r, ok := new(big.Rat).SetString(v.String()); ok {
			return "n" + r.RatString()
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = normal(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			out[k] = normal(v[k])
		}
		return out
	}
	return v
}
