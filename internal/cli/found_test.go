package cli_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFoundServer: a server that a file in the working folder names gets no token that
// was given, and is only asked where nobody else can have written the file.
func TestFoundServer(t *testing.T) {
	t.Parallel()
	var got []string
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.String()+" "+r.Header.Get("Auth-Token")+r.Header.Get("Authorization"))
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer hostile.Close()
	named := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, "named "+r.Header.Get("Auth-Token")+r.URL.RawQuery)
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer named.Close()
	data := func(url string, file, folder os.FileMode) string {
		dir := t.TempDir()
		at := filepath.Join(dir, ".specstore")
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "server.json"), []byte(`{"url":"`+url+`","pid":1}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(at, "server.json"), file); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at, folder); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	const secret = "secret-token"
	for _, c := range []struct {
		name    string
		dir     string
		args    []string
		env     map[string]string
		says    string
		reached string // what a server was sent
	}{
		{name: "a token and a named server", dir: data(hostile.URL, 0o600, 0o700), env: map[string]string{"SPECSTORE_TOKEN": secret, "SPECSTORE_SERVER": named.URL}, reached: "named " + secret},
		{name: "a token by a flag and a named server", dir: data(hostile.URL, 0o600, 0o700), args: []string{"--token", secret, "--server", named.URL}, reached: "named " + secret},
		{name: "a named server alone", dir: data(hostile.URL, 0o600, 0o700), args: []string{"--server", named.URL}, reached: "named "},
		{name: "others may write the file", dir: data(hostile.URL, 0o662, 0o700), says: "others may write to it"},
		{name: "others may write into the folder", dir: data(hostile.URL, 0o600, 0o777), says: "others may write to the folder"},
		{name: "another machine", dir: data("http://evil.example", 0o600, 0o700), says: "not on this machine"},
		{name: "another machine behind a user", dir: data("http://127.0.0.1@evil.example", 0o600, 0o700), says: "not on this machine"},
		{name: "no URL", dir: data("", 0o600, 0o700), says: "names no server"},
		{name: "no key to sign with", dir: data(hostile.URL, 0o600, 0o700), says: "there is no database yet"},
	} {
		got = nil
		code, _, stderr := runWith(t, c.dir, c.env, append([]string{"cancel", "me/a/1"}, c.args...)...)
		if code == 0 || !strings.Contains(stderr, c.says) || strings.Contains(stderr, secret) {
			t.Errorf("%s: %d %s, want %q", c.name, code, stderr, c.says)
		}
		if c.reached == "" && len(got) != 0 || c.reached != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.reached)) {
			t.Errorf("%s: sent %q, want %q", c.name, got, c.reached)
		}
	}
	// A token without a named server goes to the default address, whoever answers there.
	got = nil
	runWith(t, data(hostile.URL, 0o600, 0o700), map[string]string{"SPECSTORE_TOKEN": secret}, "cancel", "me/a/1")
	if len(got) != 0 {
		t.Errorf("the found server was sent %q", got)
	}
	// A link in place of the file.
	dir := data(hostile.URL, 0o600, 0o700)
	file := filepath.Join(dir, ".specstore", "server.json")
	if err := os.Rename(file, file+".real"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file+".real", file); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runWith(t, dir, nil, "cancel", "me/a/1"); code != 2 || !strings.Contains(stderr, "link") {
		t.Errorf("a link: %d %s", code, stderr)
	}
}
