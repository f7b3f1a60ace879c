package cli_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
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
		{"status", "me/a/1", "--server", server.URL}, {"logs", "me/a/1", "--server", server.URL}, {"logs", "me/a/1", "x", "--server", server.URL}, {"cancel", "me/a/1", "--server", server.URL},
		{"validate", "."}, {"run", ".", "--out", "out"}, {"plan", "bad.json"}, {"cat", "\x1b[31mnone"}, {"\x1b[31m"}, {"infer", "--\x1b[31m"},
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
