package cli_test

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/cli"
)

// runWith runs a command in this process, with an environment of its own.
func runWith(t *testing.T, dir string, environment map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	// A server that starts although it should not must not stop the test for ever.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code = cli.Run(ctx, cli.Env{
		Args: args, Getenv: func(name string) string { return environment[name] }, Now: time.Now, Dir: dir,
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: &said,
	})
	return code, out.String(), said.String()
}

// TestSettingsWithSecrets: what is wrong with a setting that holds an address is said in
// one line, without a part of it that may be a secret.
func TestSettingsWithSecrets(t *testing.T) {
	t.Parallel()
	type setting struct {
		name    string
		args    []string
		more    map[string]string // what the setting needs beside it
		schemes []string
	}
	serve := []string{"serve", "--addr", "127.0.0.1:0"}
	dpp := map[string]string{"SPECSTORE_PUBLIC_URL": "http://127.0.0.1:8000", "PLANNER_LOCAL": "1"}
	settings := []setting{
		{"SPECSTORE_PUBLIC_URL", serve, nil, []string{"https", "ftp", ""}},
		{"DATABASE_URL", serve, nil, []string{"mysql", "sqlite", "postgresql", "postgresql+psycopg2", ""}},
		{"DATABASE_URL", []string{"migrate"}, nil, []string{"mysql", "sqlite", "postgresql", ""}},
		{"DATABASE_URL", []string{"token", "--owner", "me"}, nil, []string{"mysql", "sqlite", "postgresql", ""}},
		{"AUTH_SERVER", serve, nil, []string{"https", "ftp", ""}},
		{"DPP_URL", serve, dpp, []string{"https", "ftp", ""}},
		{"S3_ENDPOINT_URL", serve, map[string]string{"DPP_URL": "http://127.0.0.1:1/", "SPECSTORE_PUBLIC_URL": "http://127.0.0.1:8000", "PKGSTORE_BUCKET": "b"}, []string{"https", "ftp", ""}},
		{"S3_ENDPOINT_URL", []string{"plan", "flow.yaml"}, map[string]string{"PKGSTORE_BUCKET": "b"}, []string{"https", "ftp", ""}},
		{"SPECSTORE_SERVER", []string{"status", "me/a"}, nil, []string{"https", "ftp", ""}},
		{"SPECSTORE_FETCH_ALLOW", serve, nil, []string{"https", "ftp", ""}},
		{"SPECSTORE_FETCH_ALLOW", []string{"cat", "x.csv"}, nil, []string{"https", ""}},
		{"SPECSTORE_ADDR", []string{"serve"}, nil, []string{"https", ""}},
	}
	for _, s := range settings {
		for _, scheme := range s.schemes {
			for _, rest := range []string{
				"user:hunter2@127.0.0.1:x/a", "user:hunter2@127.0.0.1/a?sig=hunter2#hunter2", "user:hun/hunter2@127.0.0.1", "user:hun?hunter2@127.0.0.1", "user:%zzhunter2@127.0.0.1",
				"127.0.0.1:1/a?sig=hunter2", "[::1/?sig=hunter2", "user:hunter2@", ":hunter2@/x", "user:hunter2 x@127.0.0.1", "\x1b[31muser:hunter2@127.0.0.1", "",
			} {
				value := rest
				if scheme != "" {
					value = scheme + "://" + rest
				}
				if rest == "" {
					value = scheme + ":/user:hunter2@127.0.0.1"
				}
				env := map[string]string{"SPECSTORE_DATA": t.TempDir()}
				maps.Copy(env, s.more)
				env[s.name] = value
				code, stdout, stderr := runWith(t, t.TempDir(), env, s.args...)
				if code == 0 {
					t.Errorf("%s=%q: %v ends with 0", s.name, value, s.args)
				}
				if strings.Contains(stdout+stderr, "hunter2") || strings.Contains(stdout+stderr, "\x1b") {
					t.Errorf("%s=%q: %v prints\n%s%s", s.name, value, s.args, stdout, stderr)
				}
			}
		}
	}
}

// TestAnonymousUpdatesSetting: the setting is refused where it could do nothing.
func TestAnonymousUpdatesSetting(t *testing.T) {
	t.Parallel()
	for _, env := range []map[string]string{
		{"SPECSTORE_ANONYMOUS_UPDATES": "yes"},
		{"SPECSTORE_ANONYMOUS_UPDATES": "loopback", "SPECSTORE_PUBLIC_URL": "https://data.example.org"},
	} {
		env["SPECSTORE_DATA"] = t.TempDir()
		if code, _, stderr := runWith(t, t.TempDir(), env, "serve", "--addr", "127.0.0.1:0"); code != 2 || !strings.Contains(stderr, "SPECSTORE_ANONYMOUS_UPDATES") {
			t.Errorf("%v: %d %s", env, code, stderr)
		}
	}
}
