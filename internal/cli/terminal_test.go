package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/cli"
)

// TestNoEscapes: nothing in texts from outside reaches the terminal as a command of it.
func TestNoEscapes(t *testing.T) {
	t.Parallel()
	const bad = `\u001b[31m\u009b2J\u0007\u202e\r`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/log"):
			fmt.Fprint(w, "line \x1b[31m\u009b2J\x07\u202e\r \xff\n")
		case strings.HasSuffix(r.URL.Path, "/cancel"):
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"error":{"message":"no `+bad+`"}}`)
		default:
			fmt.Fprint(w, `{"id":"me/a/1`+bad+`","state":"FAILED","error_log":["`+bad+`"],"logs":["`+bad+`"],"pipelines":{"me/a/1/`+bad+`":{"title":"`+bad+`","status":"FAILED`+bad+`"}}}`)
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"datapackage.json": `{"name":"a","resources":[{"name":"t","path":"t.csv","schema":{"fields":[{"name":"n","type":"integer"}]}}]}`,
		"t.csv":            "n\n\x1b[31m\u009b2J\u202e\n",
		"bad.json":         `{"resources":[{"name":"` + bad + `","path":"` + bad + `"}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"status", "me/a/1", "--server", server.URL},
		{"logs", "me/a/1", "--server", server.URL},
		{"logs", "me/a/1", "x", "--server", server.URL},
		{"cancel", "me/a/1", "--server", server.URL},
		{"validate", "."},
		{"run", ".", "--out", "out"},
		{"plan", "bad.json"},
		{"cat", "\x1b[31mnone"},
		{"\x1b[31m"},
		{"infer", "--\x1b[31m"},
	} {
		_, stdout, stderr := runWith(t, dir, nil, args...)
		if stdout+stderr == "" {
			t.Errorf("%q prints nothing", args)
		}
		if i := strings.IndexAny(stdout+stderr, "\x1b\u009b\x07\u202e\r"); i >= 0 || !utf8.ValidString(stdout+stderr) {
			t.Errorf("%q prints %q", args, stdout+stderr)
		}
	}
}

// TestDataEscapes: JSON holds no character that a terminal obeys and is the same document;
// what lists errors as CSV, and what explains a schema, has escapes; the rows of cat have
// them on a terminal alone.
func TestDataEscapes(t *testing.T) {
	t.Parallel()
	const bad = "a\x1b[31m\u009b2J\u007f\u202e\u2028é\U0001f600"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "{\r\n\"id\":\"me/a/1\",\"state\":\"SUCCEEDED\",\"error_log\":[\"a\\u001b[31m"+bad[len("a\x1b[31m"):]+"\"],\"logs\":[],\"pipelines\":{}}")
	}))
	defer server.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"datapackage.json": `{"name":"a","resources":[{"name":"t","path":"t.csv","schema":{"fields":[{"name":"n","type":"integer"}]}}]}`,
		"t.csv":            "n\n" + bad + "\n",
		"headed.csv":       bad + ",b\n1,x\n2,\"y\nz\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const obeyed = "\x1b\u009b\u007f\u202e\u2028"
	for _, c := range []struct {
		args     []string
		terminal bool
		json     bool
		raw      bool // they are in the output
	}{
		{args: []string{"status", "me/a/1", "--json", "--server", server.URL}, json: true},
		{args: []string{"validate", ".", "--json"}, json: true},
		{args: []string{"validate", ".", "--csv"}},
		{args: []string{"infer", "headed.csv"}, json: true},
		{args: []string{"infer", "headed.csv", "--json"}, json: true},
		{args: []string{"infer", "headed.csv", "--explain"}},
		{args: []string{"cat", "headed.csv"}, raw: true},
		{args: []string{"cat", "headed.csv"}, terminal: true},
		{args: []string{"cat", "headed.csv", "--json"}, json: true},
	} {
		var out, stderr bytes.Buffer
		cli.Run(t.Context(), cli.Env{
			Args: c.args, Getenv: func(string) string { return "" }, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &stderr, Now: time.Now, Dir: dir, Terminal: c.terminal,
		})
		text := out.String()
		if !strings.Contains(text, "é\U0001f600") {
			t.Errorf("%q: %q, %s", c.args, text, stderr.String())
		}
		if got := strings.ContainsAny(text, obeyed); got != c.raw {
			t.Errorf("%q, terminal %v: %q", c.args, c.terminal, text)
		}
		if i := strings.IndexByte(strings.ReplaceAll(text, "\r\n", "\n"), '\r'); i >= 0 {
			t.Errorf("%q: %q", c.args, text)
		}
		if !c.json {
			continue
		}
		found := false
		for d := json.NewDecoder(strings.NewReader(text)); ; {
			var v any
			if err := d.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				t.Errorf("%q: %v: %q", c.args, err, text)
				break
			}
			found = found || contains(v, bad)
		}
		if !found {
			t.Errorf("%q has not the text: %q", c.args, text)
		}
	}
}

// contains reports whether a text stands in a JSON value.
func contains(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, text)
	case []any:
		return slices.ContainsFunc(v, func(v any) bool { return contains(v, text) })
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), func(v any) bool { return contains(v, text) })
	}
	return false
}
