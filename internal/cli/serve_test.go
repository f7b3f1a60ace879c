package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/testkit"
)

// server is a `specstore serve` in a process of its own.
type server struct {
	t    *testing.T
	data string
	url  string
	cmd  *exec.Cmd
	log  bytes.Buffer
}

func startServer(t *testing.T, data string, env ...string) *server {
	t.Helper()
	s := &server{t: t, data: data, cmd: exec.Command("specstore", "serve", "--data", data)}
	s.start(env)
	return s
}

// start starts the server's command on a free port.
func (s *server) start(env []string) {
	s.t.Helper()
	s.cmd.Stderr = &s.log
	s.cmd.Env = append(append(os.Environ(), "SPECSTORE_ADDR=127.0.0.1:0"), env...)
	os.Remove(filepath.Join(s.data, "server.json"))
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.kill)
	for range 500 {
		b, err := os.ReadFile(filepath.Join(s.data, "server.json"))
		if err == nil {
			var info struct {
				URL string `json:"url"`
			}
			if json.Unmarshal(b, &info) == nil && info.URL != "" {
				s.url = info.URL
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.kill()
	s.t.Fatalf("the server did not start:\n%s", s.log.String())
}

// kill ends the server as kill -9 does.
func (s *server) kill() {
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

// specstore runs a command against the server.
func (s *server) specstore(args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	if slices.Contains(args, "--token") { // which goes to no server that is found
		args = append(args, "--server", s.url)
	}
	cmd := exec.Command("specstore", append(args, "--data", s.data)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			s.t.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), said.String()
}

type statusJSON struct {
	ID        string          `json:"id"`
	State     string          `json:"state"`
	Spec      json.RawMessage `json:"spec_contents"`
	Modified  string          `json:"modified"`
	Attempt   int             `json:"attempt"`
	ErrorLog  []string        `json:"error_log"`
	Pipelines map[string]struct {
		Status string `json:"status"`
	} `json:"pipelines"`
	Links struct {
		Package string `json:"package"`
	} `json:"links"`
}

func (s *server) status(dataset string) statusJSON {
	s.t.Helper()
	var st statusJSON
	res, err := http.Get(s.url + "/source/" + dataset)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&st); err != nil {
		s.t.Fatal(err)
	}
	return st
}

// download fetches a published package into a folder, paths made relative.
func download(t *testing.T, address, out string) {
	t.Helper()
	get := func(u string) []byte {
		res, err := http.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", u, res.Status, err)
		}
		return b
	}
	d, err := datapackage.Decode(bytes.NewReader(get(address)))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range resourcesOf(d) {
		u := fmt.Sprint(r["path"])
		name := fmt.Sprintf("%d-%s", i, path.Base(u))
		if err := os.WriteFile(filepath.Join(out, name), get(u), 0o600); err != nil {
			t.Fatal(err)
		}
		r["path"] = name
	}
	var b bytes.Buffer
	if err := datapackage.Encode(&b, d); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "datapackage.json"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPushCapturedFlows pushes real datasets and compares what is published.
func TestPushCapturedFlows(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(filepath.Join(testkit.Shared(t, "cases", "flow"), "fetched-*"))
	if err != nil || len(dirs) == 0 {
		t.Fatal("no cases", err)
	}
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	code, token, stderr := s.specstore("token", "--owner", "tester", "--user", "tester")
	if code != 0 {
		t.Fatal(stderr)
	}
	for _, dir := range dirs {
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := s.specstore("push", filepath.Join(dir, "input", "spec.yaml"), "--json", "--token", strings.TrimSpace(token))
			if code != 0 {
				t.Fatalf("exit code %d\n%s\n%s", code, stdout, stderr)
			}
			var st statusJSON
			if err := json.Unmarshal([]byte(stdout), &st); err != nil {
				t.Fatal(err)
			}
			if st.State != "SUCCEEDED" || st.Links.Package == "" {
				t.Fatalf("%s: %s", st.State, stdout)
			}
			var captured capturedCase
			readJSON(t, filepath.Join(dir, "case.json"), &captured)
			if len(st.Pipelines) != len(captured.Pipelines) {
				t.Errorf("%d pipelines, want %d", len(st.Pipelines), len(captured.Pipelines))
			}
			out := t.TempDir()
			download(t, st.Links.Package, out)
			compareFlow(t, dir, out, "")
		})
	}
}

// table writes a package with a table of many rows.
func table(t *testing.T, dir string, rows int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.WriteString("id,name,price\n")
	for i := range rows {
		fmt.Fprintf(&b, "%d,name of row %d,%d.%02d\n", i, i*7919%rows, i%1000, i%100)
	}
	write := func(name string, body []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("t.csv", b.Bytes())
	write("datapackage.json", []byte(`{"name":"big","resources":[{"name":"t","path":"t.csv","schema":{"primaryKey":"id","fields":[
		{"name":"id","type":"integer"},{"name":"name"},{"name":"price","type":"number"}]}}]}`))
}

// TestKill: a server that is killed in the middle of a run goes on with it when it
// is started again.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table(t, filepath.Join(dir, "big"), 600_000)
	data := filepath.Join(dir, "data")
	s := startServer(t, data)
	if code, stdout, stderr := s.specstore("push", filepath.Join(dir, "big"), "--no-wait"); code != 0 {
		t.Fatalf("push: %d\n%s\n%s", code, stdout, stderr)
	}
	for range 1000 {
		st := s.status("local/big/1")
		if st.State == "SUCCEEDED" {
			t.Fatal("the run ended before it could be killed")
		}
		if st.State == "INPROGRESS" {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	s.kill()

	s = startServer(t, data)
	if code, stdout, stderr := s.specstore("status", "local/big", "--watch"); code != 0 {
		t.Fatalf("status: %d\n%s\n%s", code, stdout, stderr)
	}
	st := s.status("local/big/latest")
	if st.State != "SUCCEEDED" || st.Attempt != 2 || st.ID != "local/big/1" {
		t.Errorf("%+v", st)
	}
	out := t.TempDir()
	download(t, st.Links.Package, out)
	d := readDescriptor(t, filepath.Join(out, "datapackage.json"))
	if got := fmt.Sprint(d["datahub"].(map[string]any)["stats"].(map[string]any)["rowcount"]); got != "600000" {
		t.Errorf("%s rows were published", got)
	}
	if left, _ := os.ReadDir(filepath.Join(data, "tmp")); len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
}

// TestStop: a server that is asked to stop does so at once, and what it was doing
// goes on later.
func TestStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table(t, filepath.Join(dir, "big"), 600_000)
	data := filepath.Join(dir, "data")
	s := startServer(t, data)
	if code, _, stderr := s.specstore("push", filepath.Join(dir, "big"), "--no-wait"); code != 0 {
		t.Fatal(stderr)
	}
	for s.status("local/big/1").State == "QUEUED" {
		time.Sleep(5 * time.Millisecond)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, s.log.String())
	}
	s = startServer(t, data)
	if code, stdout, stderr := s.specstore("status", "local/big", "--watch"); code != 0 {
		t.Fatalf("status: %d\n%s\n%s", code, stdout, stderr)
	}
}

// TestRedacted: strangers see how a private revision stands where the operator says so.
func TestRedacted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table(t, filepath.Join(dir, "big"), 10)
	s := startServer(t, filepath.Join(dir, "data"), "SPECSTORE_ANONYMOUS_STATUS=redacted")
	if code, _, stderr := s.specstore("push", filepath.Join(dir, "big"), "--findability", "private"); code != 0 {
		t.Fatal(stderr)
	}
	st := s.status("local/big/1")
	if st.State != "SUCCEEDED" || len(st.Pipelines) != 7 || st.Links.Package != "" {
		t.Errorf("%+v", st)
	}
	res, err := http.Get(s.url + "/pkgstore/local/big/1/datapackage.json")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("a stranger reads a private package: %s", res.Status)
	}
}

// TestFindability: strangers read nothing of a private dataset, whatever lies under
// it, until a push that publishes it has succeeded.
func TestFindability(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table(t, filepath.Join(dir, "big"), 10)
	s := startServer(t, filepath.Join(dir, "data"))
	push := func(findability string, want int) {
		t.Helper()
		if code, _, stderr := s.specstore("push", filepath.Join(dir, "big"), "--findability", findability); code != want {
			t.Fatalf("%d, %s", code, stderr)
		}
	}
	_, token, _ := s.specstore("token", "--owner", "local")
	token = strings.TrimSpace(token)
	get := func(u, token string) (int, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Auth-Token", token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, b
	}
	push("private", 0)
	addresses := []string{s.url + "/source/local/big/1", s.url + "/source/local/big/latest"}
	var st struct {
		Pipelines map[string]struct {
			Stats struct {
				DPP struct {
					URL string `json:"out-datapackage-url"`
				} `json:".dpp"`
			} `json:"stats"`
		} `json:"pipelines"`
	}
	if _, b := get(addresses[0], token); json.Unmarshal(b, &st) != nil || len(st.Pipelines) != 7 {
		t.Fatalf("the owner's status is %.300s", b)
	}
	for _, p := range st.Pipelines {
		addresses = append(addresses, p.Stats.DPP.URL)
	}
	var d struct {
		Resources []struct {
			Path string `json:"path"`
		} `json:"resources"`
	}
	if _, b := get(s.url+"/pkgstore/local/big/1/datapackage.json", token); json.Unmarshal(b, &d) != nil || len(d.Resources) < 3 {
		t.Fatalf("the owner's descriptor is %.300s", b)
	}
	for _, r := range d.Resources {
		addresses = append(addresses, r.Path)
	}
	check := func(when string, strangers int) {
		t.Helper()
		for _, u := range addresses {
			if code, _ := get(u, ""); code != strangers {
				t.Errorf("%s: %s to a stranger: %d, want %d", when, u, code, strangers)
			}
			if code, _ := get(u, token); code != http.StatusOK {
				t.Errorf("%s: %s to the owner: %d", when, u, code)
			}
		}
	}
	check("while private", http.StatusNotFound)
	good, err := os.ReadFile(filepath.Join(dir, "big", "t.csv"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "big", "t.csv"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(append(bytes.Clone(good), "bad\n"...))
	push("published", 1)
	check("after a push that failed", http.StatusNotFound)
	write(good)
	push("published", 0)
	check("when published", http.StatusOK)
	push("private", 0)
	check("when private again", http.StatusNotFound)
}

// TestCancelAndRetry: an owner ends a run and starts it again.
func TestCancelAndRetry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table(t, filepath.Join(dir, "big"), 600_000)
	s := startServer(t, filepath.Join(dir, "data"))
	if code, _, stderr := s.specstore("push", filepath.Join(dir, "big"), "--no-wait"); code != 0 {
		t.Fatal(stderr)
	}
	for s.status("local/big/1").State == "QUEUED" {
		time.Sleep(5 * time.Millisecond)
	}
	if code, stdout, stderr := s.specstore("cancel", "local/big/1"); code != 0 || !strings.Contains(stdout, "CANCELLED local/big/1") {
		t.Fatalf("cancel: %d\n%s\n%s", code, stdout, stderr)
	}
	if st := s.status("local/big/1"); st.State != "FAILED" {
		t.Errorf("after a cancel the state is %s", st.State)
	}
	if code, _, stderr := s.specstore("cancel", "local/big"); code != 3 || !strings.Contains(stderr, "ended") {
		t.Errorf("a second cancel: %d\n%s", code, stderr)
	}
	if code, stdout, stderr := s.specstore("retry", "local/big/1"); code != 0 || !strings.Contains(stdout, "SUCCEEDED local/big/1") {
		t.Fatalf("retry: %d\n%s\n%s", code, stdout, stderr)
	}
	if code, stdout, _ := s.specstore("logs", "local/big"); code != 0 || !strings.Contains(stdout, "t_csv: read 600000 rows") {
		t.Errorf("logs: %d\n%s", code, stdout)
	}
	if code, stdout, _ := s.specstore("logs", "local/big", "t_csv"); code != 0 || !strings.HasPrefix(stdout, "read 600000 rows") {
		t.Errorf("log of a pipeline: %d\n%s", code, stdout)
	}
}

// TestRefusals: what a server answers to what is wrong.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "SPECSTORE_ANONYMOUS_UPDATES=loopback")
	token := func(args ...string) string {
		code, stdout, stderr := s.specstore(append([]string{"token"}, args...)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		return strings.TrimSpace(stdout)
	}
	source := token("--owner", "me", "--service", "source", "--max-datasets", "1")
	spec := func(dataset, more string) string {
		return `{"meta":{"ownerid":"me","dataset":"` + dataset + `","findability":"private"` + more + `},"inputs":[{"kind":"datapackage","parameters":{"descriptor":{"resources":[{"name":"x","path":"http://127.0.0.1:1/x.pdf"}]}}}]}`
	}
	for _, c := range []struct {
		name, method, path, token, body string
		status                          int
		want                            string
	}{
		{"empty", "POST", "/source/upload", source, "", 400, "Received empty contents"},
		{"null", "POST", "/source/upload", source, "null", 400, "Received empty contents"},
		{"not JSON", "POST", "/source/upload", source, "{\"a\":\n1,}", 400, "line 2, column"},
		{"no owner", "POST", "/source/upload", source, `{"meta":{}}`, 400, "Missing owner in spec"},
		{"no token", "POST", "/source/upload", "", spec("a", ""), 401, "No token or token not authorised for owner"},
		{"bad token", "POST", "/source/upload", source + "x", spec("a", ""), 401, "No token or token not authorised for owner"},
		{"user token", "POST", "/source/upload", token("--owner", "me"), spec("a", ""), 401, "No token or token not authorised for owner"},
		{"other owner", "POST", "/source/upload", token("--owner", "you", "--service", "source"), spec("a", ""), 403, "No token or token not authorised for owner"},
		{"no datasets", "POST", "/source/upload", token("--owner", "me", "--service", "source", "--max-datasets", "0"), spec("a", ""), 403, "Max datasets for user exceeded plan limit (0)"},
		{"schedule", "POST", "/source/upload", source, strings.Replace(spec("a", ""), `{"meta"`, `{"schedule":"often","meta"`, 1), 400, "Schedule should start with 'every'"},
		{"invalid", "POST", "/source/upload", source, `{"meta":{"ownerid":"me","dataset":"a b"}}`, 400, `"Validation failed for contents","/meta/dataset:`},
		{"local file", "POST", "/source/upload", source, strings.Replace(spec("a", ""), "http://127.0.0.1:1/x.pdf", "x.pdf", 1), 400, "/inputs/0/url"},
		{"nothing is there", "GET", "/source/me/a/latest", source, "", 404, "error"},
		{"accepted", "POST", "/source/upload", source, spec("a", ""), 200, `"flow_id":"me/a/1"`},
		{"one dataset more", "POST", "/source/upload", source, spec("b", ""), 403, "Max datasets for user exceeded plan limit (1)"},
		{"second revision", "POST", "/source/upload", source, spec("a", ""), 200, `"flow_id":"me/a/2"`},
		{"a stranger", "GET", "/source/me/a/1", "", "", 404, "error"},
		{"another owner", "GET", "/source/me/a/1", token("--owner", "you"), "", 404, "error"},
		{"the owner", "GET", "/source/me/a/1", token("--owner", "me"), "", 200, `"id":"me/a/1"`},
		{"no number", "GET", "/source/me/a/01", source, "", 404, "error"},
		{"wrong method", "GET", "/source/upload", "", "", 405, "error"},
		{"no route", "GET", "/nothing", "", "", 404, "error"},
		{"unknown pipeline", "POST", "/source/update", "", `{"pipeline":"me/none/1","event":"start"}`, 404, "pipeline not found"},
		{"unknown event", "POST", "/source/update", "", `{"pipeline":"me/a/1","event":"jump"}`, 400, "jump"},
		{"update of an embedded flow", "POST", "/source/update", "", `{"pipeline":"me/a/1","event":"finish","success":true}`, 200, `"id":"me/a/1"`},
		{"raw file without leave", "GET", "/rawstore/o/me/abc-1", "", "", 403, "not signed"},
		{"out of the store", "GET", "/pkgstore/me/a/..%2f..%2fregistry.db", "", "", 404, "error"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.url+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		if c.token != "" {
			req.Header.Set("Auth-Token", c.token)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.status || !strings.Contains(string(b), c.want) {
			t.Errorf("%s: %d %.300s, want %d %s", c.name, res.StatusCode, b, c.status, c.want)
		}
	}
	// The source cannot be read: the flow fails and says why.
	for range 500 {
		if code, stdout, _ := s.specstore("status", "me/a/2", "--token", source); code == 1 {
			if !strings.Contains(stdout, "not public") {
				t.Errorf("the error log does not say why:\n%s", stdout)
			}
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the flow did not fail")
}
