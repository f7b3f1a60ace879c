package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// A server that listens on all addresses hands out the one by which it was asked, and says
// at its start that it does; also "push" gets along with that.
func TestListenEverywhere(t *testing.T) {
	t.Parallel()
	for addr, warns := range map[string]bool{"0.0.0.0:0": true, "[::]:0": true, "127.0.0.1:0": false} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := startServer(t, filepath.Join(dir, "data"), "SPECSTORE_ADDR="+addr)
			table(t, filepath.Join(dir, "small"), 3)
			if code, stdout, stderr := s.specstore("push", filepath.Join(dir, "small"), "--findability", "published"); code != 0 {
				t.Fatalf("push: exit code %d\n%s\n%s", code, stdout, stderr)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/source/local/big/1", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "data.example:8000"
			r.Header.Set("X-Forwarded-Host", "evil.example")
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var got statusJSON
			if err := json.NewDecoder(res.Body).Decode(&got); err != nil || got.Links.Package != "http://data.example:8000/pkgstore/local/big/1/datapackage.json" {
				t.Errorf("the package's address is %q, %v", got.Links.Package, err)
			}
			s.kill()
			if said := strings.Contains(s.log.String(), "SPECSTORE_PUBLIC_URL is not set"); said != warns {
				t.Errorf("a warning: %t, want %t\n%s", said, warns, s.log.String())
			}
		})
	}
}

// What was pushed to a server is read from it, and made again, after it has moved to
// another address.
func TestMove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	before := startServer(t, data)
	table(t, filepath.Join(dir, "small"), 3)
	if code, stdout, stderr := before.specstore("push", filepath.Join(dir, "small"), "--findability", "published", "--schedule", "every 1m"); code != 0 {
		t.Fatalf("push: exit code %d\n%s\n%s", code, stdout, stderr)
	}
	before.kill()
	after := startServer(t, data)
	if after.url == before.url {
		t.Skip("the same port was free again")
	}
	got := after.status("local/big/1")
	if !strings.HasPrefix(got.Links.Package, after.url) {
		t.Fatalf("the package's address is %q on %s", got.Links.Package, after.url)
	}
	out := t.TempDir()
	download(t, got.Links.Package, out)
	d := readDescriptor(t, filepath.Join(out, "datapackage.json"))
	if rows := fmt.Sprint(d["datahub"].(map[string]any)["stats"].(map[string]any)["rowcount"]); rows != "3" {
		t.Errorf("%s rows are read after the move", rows)
	}
}
