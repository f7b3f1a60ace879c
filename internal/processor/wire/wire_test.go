package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor/wire"
)

const stream = `{"a/b": "out/datapackage.json"}
{"name": "p", "resources": [{"name": "plain"}, {"dpp:streaming": true, "name": "r", "schema": {"fields": [{"name": "b"}, {"name": "a"}]}}, {"dpp:streaming": true, "name": "s", "schema": {"fields": []}}]}

{"a": 1, "b": {"type{decimal}": "1.50"}}
{"a": {"type{datetime}": "2020-01-02 03:04:05"}, "b": "\u00e9\ud83d\ude00"}
{"a": {"type{duration}": "P1D"}, "b": [1, {"k": {"type{date}": "2020-01-02"}}], "other": 2.0}
{"b": null}
{"a": {"type{time}": "03:04:05"}, "b": {"type{set}": ["x"]}}
{"a": {"type{date}": "0999-12-31"}, "b": 1.5}
{"a": true, "b": {"type{date}": "no date"}}

{}

{"bytes": 5}

`

// TestSame: what is read is written again, byte for byte.
func TestSame(t *testing.T) {
	t.Parallel()
	p, dependencies, err := wire.Read(strings.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := wire.Write(t.Context(), &out, p, dependencies); err != nil {
		t.Fatal(err)
	}
	if out.String() != stream {
		t.Errorf("%s", out.String())
	}
}

// TestUnread: rows that nobody reads are passed by, and statistics found behind them.
func TestUnread(t *testing.T) {
	t.Parallel()
	p, _, err := wire.Read(strings.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for t2, err := range p.Tables {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 {
			for range t2.Rows {
				break
			}
		}
	}
	if n != 2 || p.Stats()["bytes"] == nil {
		t.Errorf("%d tables, %v", n, p.Stats())
	}
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	p, dependencies, err := wire.Read(strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := wire.Write(t.Context(), &out, p, dependencies); err != nil {
		t.Fatal(err)
	}
	if want := "{}\n{\"name\": \"_\", \"resources\": []}\n\n{}\n\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}

// TestBroken: a wrong stream is Invalid, and the line is named.
func TestBroken(t *testing.T) {
	t.Parallel()
	const head = "{}\n" + `{"resources": [{"name": "r", "dpp:streaming": true, "schema": {"fields": [{"name": "a"}]}}]}` + "\n"
	for text, want := range map[string]string{
		"x":                          "line 1: not JSON",
		"[]\n":                       "line 1: an object",
		"{\"a\": 1}\n":               "line 1: the dependencies",
		"{}\n":                       "line 2: the stream ends too early",
		"{}\n{\"resources\": 1}\n":   "line 2: /resources must be a list",
		"{}\n{\"resources\": [1]}\n": "line 2: /resources/0 must be an object",
		head + "{}\n":                "line 3: a blank line",
		head + "\n{\"a\": 1}\n":      "line 5: the stream ends too early",
		head + "\n[1]\n":             "line 4: a row must be a JSON object",
		head + "\n{\"a\": 1} 2\n":    "line 4: there is more than one value",
		head + "\n{\"a\": NaN}\n":    "line 4: not JSON",
		head + "\n\n":                "line 5: the stream ends too early",
		head + "\n\nx\n":             "line 5: not JSON",
	} {
		p, dependencies, err := wire.Read(strings.NewReader(text))
		if err == nil {
			err = wire.Write(t.Context(), io.Discard, p, dependencies)
		}
		if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(errs.Detail(err), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestFull: a writer that fails ends the stream with its own error.
func TestFull(t *testing.T) {
	t.Parallel()
	p, dependencies, err := wire.Read(strings.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("full")
	if err := wire.Write(t.Context(), failing{full}, p, dependencies); !errors.Is(err, full) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// FuzzRead: a stream is read or Invalid; what was written is read again as the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte(stream))
	f.Add([]byte("{}\n{}\n\n{}\n\n"))
	again := func(t *testing.T, in []byte) ([]byte, error) {
		p, dependencies, err := wire.Read(bytes.NewReader(in))
		if err != nil {
			return nil, err
		}
		var out bytes.Buffer
		err = wire.Write(t.Context(), &out, p, dependencies)
		return out.Bytes(), err
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		once, err := again(t, in)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.TooLarge {
				t.Fatal(err)
			}
			return
		}
		twice, err := again(t, once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v\n%s\n%s", err, once, twice)
		}
	})
}
