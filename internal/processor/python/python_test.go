package python_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/pattern"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/stream"
)

type cell struct {
	kind stream.Kind
	text string
}

func lookup(row map[string]cell) python.Lookup {
	return func(name string) (stream.Kind, []byte, bool) {
		c, ok := row[name]
		return c.kind, []byte(c.text), ok
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	row := lookup(map[string]cell{
		"i": {stream.Integer, "7"}, "n": {stream.Number, "-1234.5"}, "f": {stream.Float, "2.5"}, "s": {stream.Text, "é'x"},
		"b": {stream.Boolean, "true"}, "z": {stream.Null, ""}, "d": {stream.Datetime, "2020-01-02T03:04:05"},
		"l": {stream.JSON, `[1, "a", null, {"k": true}]`}, "a b": {stream.Text, "blank"},
	})
	// The right side is what Python 3 prints.
	for format, want := range map[string]string{
		"{i}-{s}": "7-é'x", "{{{i}}}": "{7}", "{i:03d}": "007", "{i:+}": "+7", "{i:>4}|{i:<4}|{i:^4}": "   7|7   | 7  ",
		"{n}": "-1234.5", "{n:,.2f}": "-1,234.50", "{n:012.1f}": "-000001234.5", "{f:.1%}": "250.0%", "{f:e}": "2.500000e+00",
		"{s:*>5}": "**é'x", "{s:.1}": "é", "{s!r}": `"é'x"`, "{b} {z} {d}": "True None 2020-01-02 03:04:05",
		"{l}": "[1, 'a', None, {'k': True}]", "{a b}": "blank", "{i:x}{i:b}": "7111", "{i:.2f}": "7.00",
	} {
		f, err := python.ParseFormat(format)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		if got, err := f.Append(nil, row); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", format, got, err, want)
		}
	}
	for _, format := range []string{"{", "}", "{}", "{0}", "{a.b}", "{a[0]}", "{i:{n}}", "{i!a}", "{i:9999999d}", "{i:q}"} {
		if _, err := python.ParseFormat(format); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", format, err)
		}
	}
	for _, format := range []string{"{gone}", "{s:d}", "{n:d}", "{l:5}", "{i:.2}"} {
		f, err := python.ParseFormat(format)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		if _, err := f.Append(nil, row); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func TestRegexp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ find, with, text, want string }{
		{`\w+`, "W", "été, naïve_1", "W, W"},
		{`\d`, "#", "1٣", "##"},
		{`(?P<a>\w)(?P<b>\w)`, `\g<b>\g<a>`, "abcd", "badc"},
		{`[\w.]+@`, "", "a.é@b", "b"},
		{`[]x]`, "-", "a]x", "a--"},
		{`[[:a]`, "-", "[:ab", "---b"},
		{`a{,2}b`, "-", "aab", "-"},
		{`\s`, "_", "a\u00a0b c", "a_b_c"},
		{`\W`, "", "a-é!", "aé"},
		{`x\Z`, "y", "xx", "xy"},
		{`(a)|b`, `<\1>`, "ab", "<a><>"},
		{`\.`, `\\`, "a.b", `a\b`},
		{"a", `\n`, "a", "\n"},
		{`(?i)A`, "b", "aA", "bb"},
	} {
		re, err := python.Compile(c.find, pattern.NewBudget(pattern.MaxBytes))
		if err != nil {
			t.Errorf("%s: %v", c.find, err)
			continue
		}
		with, err := re.Replacement(c.with)
		if err != nil {
			t.Errorf("%s: %v", c.with, err)
			continue
		}
		if got, err := with.Append(nil, []byte(c.text)); err != nil || string(got) != c.want {
			t.Errorf("%s → %s of %q: %q (%v), want %q", c.find, c.with, c.text, got, err, c.want)
		}
	}
	for _, p := range []string{`(?=a)`, `(?!a)`, `(?<=a)`, `(?<!a)`, `(a)\1`, `(?P<a>x)(?P=a)`, `(?x)a`, `(?>a)`, `(`, `a**`, `\p{L}`, `\`, `a{5000}`, strings.Repeat("a", 5000)} {
		if _, err := python.Compile(p, pattern.NewBudget(pattern.MaxBytes)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%.20s: %v", p, err)
		}
	}
	re, err := python.Compile("(a)", pattern.NewBudget(pattern.MaxBytes))
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range []string{`\2`, `\g<b>`, `\g`, `\q`} {
		if _, err := re.Replacement(with); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", with, err)
		}
	}
	full, err := python.CompileFull("a|ab", pattern.NewBudget(pattern.MaxBytes))
	if err != nil || !full.Match("ab") || full.Match("abc") {
		t.Errorf("a whole name is not matched: %v", err)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	// What str(Decimal(…)) gives.
	for text, want := range map[string]string{"1e10": "1E+10", "1.50": "1.50", "0.0000001": "1E-7", "0.000001": "0.000001", "-0": "-0", "007": "7", "1e2": "1E+2"} {
		if got, ok := python.DecimalText([]byte(text)); !ok || got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for f, want := range map[float64]string{1.5: "1.5", 3: "3.0", 1e16: "1e+16", 1e15: "1000000000000000.0", 0.00001: "1e-05", 0.1: "0.1"} {
		if got := string(python.AppendFloat(nil, f)); got != want {
			t.Errorf("%v: %q, want %q", f, got, want)
		}
	}
	third, _ := python.ParseNumber(stream.Number, []byte("10"))
	if got := string(python.Divide(third, 3).Append(nil)); got != "3.333333333333333333333333333" {
		t.Errorf("10/3 is %s", got)
	}
}

// TestSortKey: keys sort as numbers do, whatever follows them.
func TestSortKey(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	type number struct {
		n   python.Number
		key []byte
	}
	var list []number
	add := func(kind stream.Kind, text string) {
		n, ok := python.ParseNumber(kind, []byte(text))
		if !ok {
			t.Fatal(text)
		}
		key := python.AppendSortKey(nil, n)
		list = append(list, number{n, append(key, byte('!'+random.IntN(90)))})
	}
	for _, text := range []string{"0", "1", "-1", "10", "9", "99", "100", "-9", "-10", "9007199254740993", "9007199254740992", "123456789012345678901234567890"} {
		add(stream.Integer, text)
	}
	for _, text := range []string{"1.5", "-1.5", "1E+3", "1E-30", "-1E-30", "1.49999999999999999999", "0.00", "Infinity", "-Infinity"} {
		add(stream.Number, text)
	}
	for range 300 {
		add(stream.Float, string(python.AppendFloat(nil, (random.Float64()-0.5)*1e6)))
	}
	slices.SortFunc(list, func(a, b number) int { return bytes.Compare(a.key, b.key) })
	for i := 1; i < len(list); i++ {
		if python.Compare(list[i-1].n, list[i].n) > 0 {
			t.Errorf("%s sorts before %s", list[i-1].n.Append(nil), list[i].n.Append(nil))
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	v, err := python.ParseJSON([]byte(`{"b": [1.50, 1e2, "é😀\n"], "a": {}, "a": []}`))
	if err != nil {
		t.Fatal(err)
	}
	for o, want := range map[python.JSON]string{
		{}:            `{"a": [], "b": [1.5, 100.0, "é😀\n"]}`,
		{ASCII: true}: `{"a": [], "b": [1.5, 100.0, "\u00e9\ud83d\ude00\n"]}`,
		{Indent: 2}:   "{\n  \"a\": [],\n  \"b\": [\n    1.5,\n    100.0,\n    \"é😀\\n\"\n  ]\n}",
	} {
		if got := string(o.Append(nil, v)); got != want {
			t.Errorf("%+v: %s, want %s", o, got, want)
		}
	}
	for _, text := range []string{"", "{", "1 2", "NaN", "\"\xff\"", strings.Repeat("[", 200)} {
		if _, err := python.ParseJSON([]byte(text)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%.10q: %v", text, err)
		}
	}
}

// FuzzRegexp: what is refused is Invalid, and a translation never changes what text
// without special characters means.
func FuzzRegexp(f *testing.F) {
	f.Add(`(?P<a>\w+)[^\d]`, `\g<a>`, "text")
	f.Fuzz(func(t *testing.T, find, with, text string) {
		re, err := python.Compile(find, pattern.NewBudget(pattern.MaxBytes))
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatal(err)
			}
			return
		}
		r, err := re.Replacement(with)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if _, err := r.Append(nil, []byte(text)); err != nil {
			t.Skip(err) // far longer than what fuzzing finds
		}
	})
}

// FuzzFormat: formats from strangers fill or are refused, and nothing else.
func FuzzFormat(f *testing.F) {
	f.Add("{a:*^+012,.3f}{b!r:>5}", "1.5")
	f.Fuzz(func(t *testing.T, format, text string) {
		p, err := python.ParseFormat(format)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatal(err)
			}
			return
		}
		kind := stream.Text
		if json.Valid([]byte(text)) {
			kind = stream.JSON
		}
		if _, ok := python.DecimalText([]byte(text)); ok {
			kind = stream.Number
		}
		if _, err := p.Append(nil, func(string) (stream.Kind, []byte, bool) { return kind, []byte(text), true }); err != nil && !errs.Is(err, errs.Invalid) {
			t.Fatal(err)
		}
	})
}

// TestLong: what is made of a cell is bounded, whatever the parameters ask for.
func TestLong(t *testing.T) {
	t.Parallel()
	cell := bytes.Repeat([]byte("a"), 1<<20)
	for _, c := range []struct{ find, with, says string }{
		{"^.*$", strings.Repeat(`\g<0>`, 100), "longer than 64 MiB"},
		{"a", "b", "more than 262144 places"},
		{"$", strings.Repeat("b", 1<<20), ""},
	} {
		re, err := python.Compile(c.find, pattern.NewBudget(pattern.MaxBytes))
		if err != nil {
			t.Fatal(err)
		}
		with, err := re.Replacement(c.with)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := with.Append(nil, cell); (err == nil) != (c.says == "") || err != nil && (!errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), c.says)) {
			t.Errorf("%s: %v", c.find, err)
		}
	}
	f, err := python.ParseFormat(strings.Repeat("{a}", 100))
	if err != nil {
		t.Fatal(err)
	}
	row := func(string) (stream.Kind, []byte, bool) { return stream.Text, cell, true }
	if _, err := f.Append(nil, row); !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), "longer than 64 MiB") {
		t.Errorf("a format: %v", err)
	}
}
