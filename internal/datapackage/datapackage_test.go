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
	const two = `"$schema":"https://datapackage.org/profiles/2.0/datapackage.json",`
	for text, pointer := range map[string]string{
		`{}`:                           "/resources",
		`{"resources":[]}`:             "/resources",
		`{"resources":[1]}`:            "/resources/0",
		`{"resources":[{"path":"a"}]}`: "/resources/0/name",
		`{"resources":[{"name":"a"}]}`: "/resources/0",
		`{"resources":[{"name":"a","path":"../a"}]}`:                                         "/resources/0/path",
		`{"resources":[{"name":"a","path":["a","../b"]}]}`:                                   "/resources/0/path/1",
		`{"resources":[{"name":"a","path":[]}]}`:                                             "/resources/0/path",
		`{"resources":[{"name":"a","path":"a"},{"name":"a","path":"b"}]}`:                    "/resources/1/name",
		`{"resources":[{"name":"a","path":"a","schema":"s.json"}]}`:                          "/resources/0/schema",
		`{"resources":[{"name":"a","path":"a"},{"name":"b","path":"https://x/y"}]}`:          "",
		`{"resources":[{"name":"a","path":["a","b"]}]}`:                                      "",
		`{"s":{},"resources":[{"name":"a","path":"a","schema":"#/s"}]}`:                      "",
		`{"resources":[{"name":"a","data":[{"n":1}]}]}`:                                      "",
		`{"resources":[{"name":"a","data":"n"}]}`:                                            "/resources/0/format",
		`{"name":"A B","resources":[{"name":"a","path":"a"}]}`:                               "/name",
		`{"resources":[{"name":"A","path":"a"}]}`:                                            "/resources/0/name",
		`{"resources":[{"name":"a","path":"a","data":[]}]}`:                                  "",
		`{"licenses":[{}],"resources":[{"name":"a","path":"a"}]}`:                            "/licenses/0",
		`{"sources":[{"path":"x"}],"resources":[{"name":"a","path":"a"}]}`:                   "/sources/0/title",
		`{"contributors":[{"email":"x"}],"resources":[{"name":"a","path":"a"}]}`:             "/contributors/0/title",
		`{"created":"yesterday","resources":[{"name":"a","path":"a"}]}`:                      "/created",
		`{"keywords":"water","resources":[{"name":"a","path":"a"}]}`:                         "/keywords",
		`{` + two + `"name":"A B","resources":[{"name":"Ä","path":"a","type":"table"}]}`:     "",
		`{` + two + `"resources":[{"name":"a","path":"a","data":[]}]}`:                       "/resources/0",
		`{` + two + `"resources":[{"name":"a","path":"a","type":"map"}]}`:                    "/resources/0/type",
		`{` + two + `"sources":[{"path":"x"}],"resources":[{"name":"a","path":"a"}]}`:        "",
		`{` + two + `"contributors":[{"roles":[]}],"resources":[{"name":"a","path":"a"}]}`:   "/contributors/0/roles",
		`{` + two + `"created":"2024-05-06T07:08:09Z","resources":[{"name":"a","data":{}}]}`: "",
	} {
		d, err := datapackage.Decode(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		problems := datapackage.Check(d)
		if len(problems) > 0 {
			got = problems[0].Pointer
		}
		if got != pointer {
			t.Errorf("%s: problems %v, want one at %q", text, problems, pointer)
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
