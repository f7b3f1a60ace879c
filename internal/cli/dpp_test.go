package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/testkit"
)

// venv gives the virtual environment of a datapackage-pipelines service, as tools/dpp-venv
// makes it. Where there is none the test is skipped; in CI that is a failure, unless the
// CI's script says why there can be none.
func venv(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SPECSTORE_TEST_DPP")
	why := ""
	if dir == "" {
		why = "SPECSTORE_TEST_DPP names no virtual environment; tools/dpp-venv DIR makes one"
	} else if _, err := os.Stat(filepath.Join(dir, "bin", "python")); err != nil {
		why = err.Error()
	} else if _, err := exec.LookPath("redis-server"); err != nil {
		why = "there is no redis-server"
	}
	switch {
	case why == "":
	case os.Getenv("CI") != "" && os.Getenv("SPECSTORE_TEST_NO_DPP") == "":
		t.Fatal(why)
	default:
		t.Skip("needs a datapackage-pipelines service: ", why, os.Getenv("SPECSTORE_TEST_NO_DPP"))
	}
	return dir
}

// freePort gives an address of this machine that nobody listens on.
func freePort(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// lines keeps what processes say, for a test that fails.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// pipelinesService is a real datapackage-pipelines service and its Redis, all on
// addresses of this machine alone.
type pipelinesService struct {
	t            *testing.T
	venv, folder string
	redis        string // host
	address      string // of the web process
	env          []string
	processes    []*exec.Cmd
	log          lines
}

// newPipelines starts a Redis for a service that is to read a specstore.
func newPipelines(t *testing.T, server, token string) *pipelinesService {
	t.Helper()
	p := &pipelinesService{t: t, venv: venv(t), folder: t.TempDir(), address: freePort(t, "127.0.0.1")}
	// Its port is fixed in datapackage-pipelines, so it has an address of its own.
	for i := 2; p.redis == "" && i < 250; i++ {
		host := fmt.Sprintf("127.%d.%d.1", i, os.Getpid()%250)
		if l, err := net.Listen("tcp", host+":6379"); err == nil {
			l.Close()
			p.redis = host
		}
	}
	if err := os.WriteFile(filepath.Join(p.folder, "specstore.source-spec.yaml"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.env = append(os.Environ(),
		"PATH="+filepath.Join(p.venv, "bin")+":"+os.Getenv("PATH"), "PYTHONPATH="+filepath.Join(testkit.Root(t), "python"), "LC_ALL=C.UTF-8",
		"DPP_REDIS_HOST="+p.redis, "DPP_CELERY_BROKER=redis://"+p.redis+":6379/6",
		"SPECSTORE_SERVER="+server, "SPECSTORE_UPDATE_TOKEN="+token, "SPECSTORE_FETCH_ALLOW=127.0.0.1",
	)
	redis := p.process("redis-server", "--bind", p.redis, "--port", "6379", "--save", "", "--dir", t.TempDir())
	t.Cleanup(func() {
		kill(redis)
		p.stop()
		if t.Failed() {
			t.Logf("the service says:\n%s", p.log.String())
		}
	})
	p.await("redis", func() bool {
		c, err := net.Dial("tcp", p.redis+":6379")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p
}

// process starts a process in a group of its own: workers fork.
func (p *pipelinesService) process(name string, args ...string) *exec.Cmd {
	p.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.folder, p.env, &p.log, &p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait()
}

func (p *pipelinesService) await(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not start", what)
		}
	}
}

// start starts the service. The scheduler looks for pipelines each minute, and begins
// what was left behind again.
func (p *pipelinesService) start(scheduler bool) {
	p.t.Helper()
	python := filepath.Join(p.venv, "bin", "python")
	ready := strings.Count(p.log.String(), " ready.")
	celery := []string{"-m", "celery", "-A", "datapackage_pipelines.app"}
	worker := func(queue string, at string) {
		p.processes = append(p.processes, p.process(python, append(celery, "worker", "-l", "INFO", "--concurrency="+at, "-Q", queue, "-n", queue+"@%h")...))
	}
	worker("datapackage-pipelines-management", "1")
	worker("datapackage-pipelines", "4")
	_, port, _ := net.SplitHostPort(p.address)
	p.processes = append(p.processes, p.process(python, "-m", "datapackage_pipelines_specstore.serve", "--port", port))
	if scheduler {
		env := p.env
		p.env = append(p.env, "SCHEDULER=1")
		p.processes = append(p.processes, p.process(python, append(celery, "beat", "-s", filepath.Join(p.folder, ".beat"), "--pidfile=")...))
		p.env = env
	}
	p.await("the service", func() bool {
		res, err := http.Get("http://" + p.address + "/api/raw/none")
		if err == nil {
			res.Body.Close()
		}
		return err == nil && strings.Count(p.log.String(), " ready.") >= ready+2
	})
}

// stop ends the service as a power cut does, but for its Redis.
func (p *pipelinesService) stop() {
	for _, cmd := range p.processes {
		kill(cmd)
	}
	p.processes = nil
}

// TestDPP takes datasets through a real datapackage-pipelines service.
func TestDPP(t *testing.T) {
	const token = "the operators' token"
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	address := freePort(t, "127.0.0.1")
	p := newPipelines(t, "http://"+address, token)
	store, endpoint := startBucket(t, "outputs")
	inBucket := []string{"S3_ENDPOINT_URL=" + endpoint, "AWS_ACCESS_KEY_ID=key-of-the-test", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=eu-west-1"}
	p.env = append(p.env, inBucket...)
	serve := func(env ...string) *server {
		t.Helper()
		s := startServer(t, data, append([]string{
			"SPECSTORE_ADDR=" + address, "SPECSTORE_PUBLIC_URL=http://" + address, "SPECSTORE_UPDATE_TOKEN=" + token,
			"DPP_URL=http://" + p.address + "/", "PLANNER_LOCAL=1", "SPECSTORE_DPP_PROCESSORS=*",
		}, env...)...)
		t.Cleanup(func() {
			if s.kill(); t.Failed() {
				t.Logf("specstore says:\n%s", s.log.String())
			}
		})
		return s
	}
	s := serve()
	dataset := func(name, rows string) string {
		t.Helper()
		folder := filepath.Join(dir, name)
		descriptor := fmt.Sprintf(`{"name":%q,"readme":"About it.","resources":[{"name":"t","path":"t.csv","format":"csv","schema":{"fields":[
			{"name":"id","type":"integer"},{"name":"name","type":"string"},{"name":"day","type":"date"}]}}]}`, name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string]string{"datapackage.json": descriptor, "t.csv": "id,name,day\n" + rows} {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return folder
	}
	good := dataset("good", "1,one,2020-01-02\n2,two,2021-02-03\n")

	// While it is away nothing is stored.
	if code, out, said := s.specstore("push", good); code != 3 || !strings.Contains(said, "pipelines service") {
		t.Fatalf("a push without the service: %d %s %s", code, out, said)
	}
	if st := s.status("local/good/latest"); st.ID != "" {
		t.Fatalf("%s is there", st.ID)
	}

	p.start(false)
	begun := time.Now()
	code, out, said := s.specstore("push", good, "--json")
	t.Logf("push took %s", time.Since(begun).Round(time.Second))
	var st statusJSON
	if err := json.Unmarshal([]byte(out), &st); err != nil || code != 0 || st.State != "SUCCEEDED" {
		t.Fatalf("push: %d %s %s\n%s", code, out, said, s.log.String())
	}
	for id, pipeline := range st.Pipelines {
		if pipeline.Status != "SUCCEEDED" {
			t.Errorf("%s is %s", id, pipeline.Status)
		}
	}
	// What the service made is the package, with the table in it.
	var descriptor struct {
		Resources []struct {
			Name, Path string
			DataHub    struct{ Type string }
		}
	}
	b, err := os.ReadFile(filepath.Join(p.folder, "local", "good", "1", "datapackage.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &descriptor); err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, r := range descriptor.Resources {
		types[r.DataHub.Type] = r.Path
	}
	for _, kind := range []string{"derived/report", "derived/csv", "derived/json", "derived/zip", "source/tabular"} {
		if types[kind] == "" {
			t.Errorf("no %s in %s", kind, b)
		}
	}
	csv, err := os.ReadFile(filepath.Join(p.folder, "local", "good", "t_csv", types["derived/csv"]))
	if want := "id,name,day\r\n1,one,2020-01-02\r\n2,two,2021-02-03\r\n"; string(csv) != want {
		t.Errorf("the CSV is %q, %v", csv, err)
	}

	push := func(folder string, want int) (st statusJSON) {
		t.Helper()
		code, out, said := s.specstore("push", folder, "--json")
		if err := json.Unmarshal([]byte(out), &st); err != nil || code != want {
			t.Fatalf("push: %d %s %s\n%s", code, out, said, s.log.String())
		}
		return st
	}
	// Another revision, over what the first one left.
	if st := push(good, 0); st.ID != "local/good/2" || st.State != "SUCCEEDED" {
		t.Fatalf("%+v", st)
	}

	// A cell that is wrong fails what is made of the table, with the reason, and not the copy.
	st = push(dataset("bad", "1,one,2020-01-02\nzwei,two,2021-02-03\n"), 1)
	states := map[string]string{}
	for id, pipeline := range st.Pipelines {
		states[strings.TrimPrefix(id, "local/bad/1/")] = pipeline.Status
	}
	if st.State != "FAILED" || states["t_csv"] != "FAILED" || states["t"] != "SUCCEEDED" || states["local/bad/1"] != "FAILED" ||
		!strings.Contains(strings.Join(st.ErrorLog, "\n"), "zwei") {
		t.Fatalf("%s %v %q", st.State, states, st.ErrorLog)
	}

	// What the service cannot run is known although it sends no hook.
	_, sourceToken, _ := s.specstore("token", "--owner", "local", "--service", "source", "--max-datasets", "9")
	spec := map[string]any{}
	if err := json.Unmarshal(s.status("local/good/1").Spec, &spec); err != nil {
		t.Fatal(err)
	}
	spec["meta"].(map[string]any)["dataset"] = "invalid"
	spec["processing"] = []any{map[string]any{"input": "t", "output": "t", "dpp": []any{map[string]any{"run": "no_such_step"}}}}
	b, err = json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := post(t, s.url+"/source/upload", strings.TrimSpace(sourceToken), string(b)); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	await := func(dataset string, ok func(statusJSON) bool) (st statusJSON) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
			if st = s.status(dataset); ok(st) {
				return st
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v\n%s", st, s.log.String())
			}
		}
	}
	ended := func(st statusJSON) bool { return st.State == "SUCCEEDED" || st.State == "FAILED" }
	if st = await("local/invalid/1", ended); st.State != "FAILED" || !strings.Contains(strings.Join(st.ErrorLog, "\n"), "no_such_step") {
		t.Fatalf("%s %q", st.State, st.ErrorLog)
	}

	// With a bucket the outputs are there, too, and published ones open to all.
	s.kill()
	s = serve(append(inBucket, "PLANNER_LOCAL=", "PKGSTORE_BUCKET=outputs")...)
	if st := push(dataset("bucket", "1,one,2020-01-02\n"), 0); st.State != "SUCCEEDED" {
		t.Fatalf("%+v", st)
	}
	kinds := map[string]string{}
	for key, o := range store.objects {
		if o.acl != "public-read" {
			t.Errorf("%s is %s", key, o.acl)
		}
		kinds[filepath.Base(key)] = o.kind
	}
	if kinds["t_csv.csv"] != "text/csv" || kinds["t.csv"] != "application/octet-stream" || kinds["bucket_zip.zip"] != "application/zip" ||
		store.objects["local/bucket/1/datapackage.json"].body == "" {
		t.Errorf("%v", kinds)
	}

	// The service dies in mid-run.
	s.kill()
	s = serve("SPECSTORE_DPP_TIMEOUT=20s")
	long := dataset("long", strings.Repeat("1,one,2020-01-02\n", 200_000))
	if code, _, said := s.specstore("push", long, "--no-wait"); code != 0 {
		t.Fatal(said)
	}
	await("local/long/1", func(st statusJSON) bool { return st.Pipelines["local/long/1/t_csv"].Status == "INPROGRESS" })
	p.stop()
	st = await("local/long/1", ended)
	if said := strings.Join(st.ErrorLog, "\n"); st.State != "FAILED" || !strings.Contains(said, "no sign of this pipeline for 20s: it cannot be reached") {
		t.Fatalf("%s %q", st.State, st.ErrorLog)
	}
	// While it is away a new attempt is refused; then it is made.
	retry := func() (status int, body string) {
		t.Helper()
		_, token, _ := s.specstore("token", "--owner", "local")
		return post(t, s.url+"/source/local/long/1/retry", strings.TrimSpace(token), "")
	}
	if status, body := retry(); status != http.StatusServiceUnavailable {
		t.Fatalf("%d %s", status, body)
	}
	s.kill()
	s = serve()
	p.start(true)
	if status, body := retry(); status != http.StatusOK || !strings.Contains(body, "a new attempt") {
		t.Fatalf("%d %s", status, body)
	}
	st = await("local/long/1", ended)
	if st.State != "SUCCEEDED" || st.Attempt != 2 {
		t.Fatalf("%s in attempt %d: %q\n%s", st.State, st.Attempt, st.ErrorLog, s.log.String())
	}
}

// post sends JSON as the owner of a token.
func post(t *testing.T, url, token, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Auth-Token", token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// TestPluginProcessors: every step of the plans that a pipelines service is given has a
// processor in the plugin.
func TestPluginProcessors(t *testing.T) {
	t.Parallel()
	root := testkit.Root(t)
	plugin, err := os.ReadFile(filepath.Join(root, "python", "datapackage_pipelines_specstore", "__init__.py"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("specstore", "plan", "--json", filepath.Join(root, "examples", "elements"))
	cmd.Env = append(os.Environ(), "PKGSTORE_BUCKET=b")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var plan [][2]json.RawMessage
	if err := json.Unmarshal(out, &plan); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, p := range plan {
		var details struct{ Pipeline []struct{ Run string } }
		if err := json.Unmarshal(p[1], &details); err != nil {
			t.Fatal(err)
		}
		for _, step := range details.Pipeline {
			seen++
			run := step.Run
			if _, after, ok := strings.Cut(string(plugin), "'"+run+"': '"); ok {
				run, _, _ = strings.Cut(after, "'")
			}
			kind, name, _ := strings.Cut(run, ".")
			if _, err := os.Stat(filepath.Join(root, "python", "datapackage_pipelines_"+kind, "processors", name+".py")); err != nil {
				t.Errorf("%s: %v", step.Run, err)
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d steps", seen)
	}
}
