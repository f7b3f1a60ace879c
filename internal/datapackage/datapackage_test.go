package datapackage_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
)

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "too early"},
		{"list", "[]", "must be a JSON object"},
		{"two values", "{} {}", "line 1, column"},
		{"key twice", "{\"a\":1,\n\"a\":2}", "line 2, column"},
		{"bad UTF-8", "{\"a\":\"\xff\"}", "line 1, column"},
		{"comma", "{\"a\":1,}", "line 1, column"},
		{"NaN", "{\"a\":NaN}", "line 1, column"},
		{"cut", "{\"a\":", "too early"},
		{"deep", strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101), "line 1, column 500: the document is nested deeper than 100"},
		{"very deep", "{\"a\":" + strings.Repeat(`[`, 1<<20), "nested deeper than 100"},
	} {
		_, err := datapackage.Decode(strings.NewReader(c.text))
		if !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	_, err := datapackage.Decode(strings.NewReader(`{"a":"` + strings.Repeat("x", datapackage.MaxBytes) + `"}`))
	if !errs.Is(err, errs.TooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	const text = `{
  "a": "<ü>",
  "big": 12345678901234567890.120,
  "list": [
    null,
    true,
    {}
  ]
}`
	d, err := datapackage.Decode(strings.NewReader("\ufeff" + text))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := datapackage.Encode(&b, datapackage.Clone(d)); err != nil {
		t.Fatal(err)
	}
	if b.String() != text {
		t.Errorf("got\n%s\nwant\n%s", b.String(), text)
	}
}

func TestSafePath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"data/a.csv": true, "a.csv": true, "./a.csv": true, "a..b": true, "data/…/x": true,
		"": false, "/etc/passwd": false, "../a": false, "a/../../b": false, "~/a": false, `a\..\b`: false,
		`C:\a`: false, "c:/a": false, "a\x00b": false, "file:///etc/passwd": false, "s3://b/k": false,
	} {
		if got := datapackage.SafePath(path); got != want {
			t.Errorf("SafePath(%q) = %v", path, got)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for text, pointer := range map[string]string{
		`{}`:                           "/resources",
		`{"resources":[]}`:             "/resources",
		`{"resources":[1]}`:            "/resources/0",
		`{"resources":[{"path":"a"}]}`: "/resources/0/name",
		`{"resources":[{"name":"a"}]}`: "/resources/0/path",
		`{"resources":[{"name":"a","path":"../a"}]}`:                                "/resources/0/path",
		`{"resources":[{"name":"a","path":["a","b"]}]}`:                             "/resources/0/path",
		`{"resources":[{"name":"a","path":"a"},{"name":"a","path":"b"}]}`:           "/resources/1/name",
		`{"resources":[{"name":"a","path":"a","schema":"s.json"}]}`:                 "/resources/0/schema",
		`{"resources":[{"name":"a","path":"a"},{"name":"b","path":"https://x/y"}]}`: "",
	} {
		d, err := datapackage.Decode(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if problems := datapackage.Check(d); len(problems) > 0 {
			got = problems[0].Pointer
		}
		if got != pointer {
			t.Errorf("%s: problem at %q, want %q", text, got, pointer)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":[1,"x",null,{"b":true}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := datapackage.Decode(bytes.NewReader(text))
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("a refusal of the kind %v: %v", errs.KindOf(err), err)
			}
			return
		}
		var b bytes.Buffer
		if err := datapackage.Encode(&b, d); err != nil {
			t.Fatal(err)
		}
		if _, err := datapackage.Decode(&b); err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
	})
}
