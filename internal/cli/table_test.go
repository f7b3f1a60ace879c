package cli_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/cli"
)

// gone is the standard output of a command whose reader has ended.
type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, syscall.EPIPE }

type noSpace struct{}

func (noSpace) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestTablesFromURLs reads a URL as a table, through the guarded fetcher.
func TestTablesFromURLs(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/data.csv" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte("a,b\n1,x\n" + strings.Repeat("2,y\n", 100_000)))
	}))
	defer server.Close()
	run := func(allow string, args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := cli.Run(t.Context(), cli.Env{
			Args: args, Now: time.Now, Dir: t.TempDir(), Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
			Getenv: func(k string) string {
				if k == "SPECSTORE_FETCH_ALLOW" {
					return allow
				}
				return ""
			},
		})
		return code, stdout.String(), stderr.String()
	}
	for _, c := range []struct {
		allow  string
		args   []string
		code   int
		stdout string
	}{
		{"127.0.0.1", []string{"cat", server.URL + "/data.csv?x=.json#y"}, 0, "a,b\r\n1,x\r\n2,y\r\n"},
		{"127.0.0.1", []string{"infer", server.URL + "/data.csv"}, 0, `"name": "a", "type": "integer"`},
		{"", []string{"cat", server.URL + "/data.csv"}, 2, ""},
		{"127.0.0.1", []string{"infer", server.URL + "/none.csv"}, 2, ""},
	} {
		code, stdout, stderr := run(c.allow, c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || code != 0 && (stdout != "" || stderr == "") {
			t.Errorf("%v: exit code %d, %.200q, %s", c.args, code, stdout, stderr)
		}
	}

	// Who reads the output may have enough; that is no failure, but a full disk is.
	for _, c := range []struct {
		out  interface{ Write([]byte) (int, error) }
		code int
	}{{gone{}, 0}, {noSpace{}, 1}} {
		var stderr bytes.Buffer
		code := cli.Run(t.Context(), cli.Env{
			Args: []string{"cat", server.URL + "/data.csv"}, Now: time.Now, Dir: t.TempDir(), Stdout: c.out, Stderr: &stderr,
			Getenv: func(k string) string { return map[string]string{"SPECSTORE_FETCH_ALLOW": "127.0.0.1"}[k] },
		})
		if code != c.code || code == 0 != (stderr.Len() == 0) {
			t.Errorf("%T: exit code %d, %s", c.out, code, stderr.String())
		}
	}
}
