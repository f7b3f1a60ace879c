package httpapi_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/testkit"
)

// asked are requests to every route as strangers send them: by the pattern of the route,
// paths in which DATASET is a dataset's ID, and bodies of what is posted.
var asked = map[string][]string{
	"GET /source/{owner}":                                               {"/source/me", "/source/me?after=%00", "/source/me?limit=x"},
	"GET /source/{owner}/{dataset}":                                     {"/source/DATASET", "/source/DATASET?limit=1", "/source/DATASET?after=0"},
	"DELETE /source/{owner}/{dataset}":                                  {"/source/DATASET", "/source/DATASET?erase=now", "/source/DATASET?erase=x"},
	"POST /source/{owner}/{dataset}/restore":                            {"/source/DATASET/restore"},
	"GET /source/{owner}/{dataset}/{revision}":                          {"/source/DATASET/1", "/source/DATASET/latest", "/source/DATASET/successful", "/source/DATASET/9"},
	"GET /source/{owner}/{dataset}/{revision}/events":                   {"/source/DATASET/1/events"},
	"GET /source/{owner}/{dataset}/{revision}/plan":                     {"/source/DATASET/1/plan", "/source/DATASET/latest/plan"},
	"GET /source/{owner}/{dataset}/{revision}/pipelines/{pipeline}/log": {"/source/DATASET/1/pipelines/PIPELINE/log"},
	"GET /source/{owner}/{dataset}/{revision}/report":                   {"/source/DATASET/1/report", "/source/DATASET/1/report?format=csv", "/source/DATASET/1/report?format=x"},
	"GET /source/{owner}/{dataset}/{revision}/diff/{other}":             {"/source/DATASET/1/diff/2", "/source/DATASET/2/diff/1", "/source/DATASET/1/diff/9"},
	"POST /source/{owner}/{dataset}/{revision}/cancel":                  {"/source/DATASET/1/cancel"},
	"POST /source/{owner}/{dataset}/{revision}/retry":                   {"/source/DATASET/1/retry"},
	"POST /source/upload":                                               {"/source/upload"},
	"POST /source/update":                                               {"/source/update", "/source/update?token=x"},
	"POST /source/plan":                                                 {"/source/plan"},
	"GET /source-pipelines":                                             {"/source-pipelines"},
	"GET /auth/public-key":                                              {"/auth/public-key"},
	"GET /auth/check":                                                   {"/auth/check"},
	"GET /auth/authorize":                                               {"/auth/authorize?service=source"},
	"GET /auth/get_profile":                                             {"/auth/get_profile?username=me"},
	"POST /rawstore/authorize":                                          {"/rawstore/authorize"},
	"POST /rawstore/o":                                                  {"/rawstore/o"},
	"GET /rawstore/o/{owner}/{name}":                                    {"/rawstore/o/me/x"},
	"GET /rawstore/presign":                                             {"/rawstore/presign?ownerid=me&url=x"},
	"GET /pkgstore/{key...}": {
		"/pkgstore/DATASET/1/datapackage.json", "/pkgstore/DATASET/latest/datapackage.json", "/pkgstore/DATASET/successful/datapackage.json",
		"/pkgstore/DATASET/1/_/PIPELINE/datapackage.json", "/pkgstore/DATASET/PIPELINE",
	},
	"GET /openapi.yaml":   {"/openapi.yaml"},
	"GET /schemas/{name}": {"/schemas/flow-spec.json"},
	"GET /healthz":        {"/healthz"},
	"GET /readyz":         {"/readyz"},
}

// everyAnswer sends every request of [asked] about a dataset as strangers do, with the
// methods that are meant and with others, and calls fn with each answer, its headers
// included. pipelines are the last parts of IDs.
func (s *server) everyAnswer(dataset string, pipelines []string, fn func(what, answer string)) {
	s.Helper()
	owner, name, _ := strings.Cut(dataset, "/")
	strangers := map[string]string{"nobody": "", "another": s.token("you", ""), "another's service": s.token("you", auth.ServiceSource), "garbage": "x.y.z"}
	for _, pattern := range httpapi.Patterns() {
		paths := asked[pattern]
		if len(paths) == 0 {
			s.Errorf("%s is not in the table of requests", pattern)
		}
		method, _, _ := strings.Cut(pattern, " ")
		for _, path := range paths {
			path = strings.NewReplacer("DATASET", dataset, "{owner}", owner, "{dataset}", name).Replace(path)
			each := []string{path}
			if strings.Contains(path, "PIPELINE") {
				each = nil
				for _, p := range pipelines {
					each = append(each, strings.ReplaceAll(path, "PIPELINE", p))
				}
			}
			for _, path := range each {
				for who, token := range strangers {
					for _, m := range []string{method, http.MethodHead, http.MethodPut, http.MethodOptions} {
						body := ""
						if m == http.MethodPost {
							body = fmt.Sprintf(`{"pipeline":%q,"event":"start"}`, dataset+"/1")
						}
						a := s.do(m, path, body, asJSON, "Auth-Token: "+token)
						var headers bytes.Buffer
						_ = a.header.Write(&headers)
						fn(fmt.Sprintf("%s: %s %s: %d", who, m, path, a.status), headers.String()+a.body)
					}
				}
			}
		}
	}
}

// unpacked calls fn with what lies in a folder: its files, and what ZIP files hold.
func unpacked(t *testing.T, folder string, fn func(name, content string)) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body := testkit.Must(os.ReadFile(path))(t)
		fn(path, string(body))
		archive, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
		if err != nil {
			return nil // it is no archive
		}
		for _, f := range archive.File {
			entry := testkit.Must(f.Open())(t)
			defer entry.Close()
			fn(path+": "+f.Name, f.Name+" "+string(testkit.Must(io.ReadAll(entry))(t)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// secretive are texts of resources in which an address with SECRET in it stands in every
// place that an address may have. BASE is a server's.
var secretive = []string{
	`{"name":"mapped","path":"mapped.csv","schema":SCHEMA}`,
	`{"name":"direct","path":"BASE/direct.csv?sig=SECRET&x=1#SECRET","schema":SCHEMA}`,
	`{"name":"old","url":"BASE/old.csv?sig=SECRET","path":"BASE/other.csv?sig=SECRET","schema":SCHEMA}`,
	`{"name":"no-ending","path":"BASE/export?sig=SECRET","format":"csv","schema":SCHEMA}`,
	`{"name":"dotted","path":"BASE/export?file=a.SECRET","schema":SCHEMA}`,
	`{"name":"slash","path":"BASE/export.csv?sig=/SECRET.csv","schema":SCHEMA}`,
	`{"name":"parts","path":["BASE/a.csv?sig=SECRET","BASE/b.csv?sig=SECRET"],"schema":SCHEMA}`,
	`{"name":"old-parts","url":["BASE/a.csv?sig=SECRET","BASE/b.csv?sig=SECRET"],"path":["BASE/x.csv?sig=SECRET"],"schema":SCHEMA}`,
	`{"name":"plain","path":"BASE/notes.txt?sig=SECRET"}`,
	`{"name":"unnamed","path":"BASE/?sig=SECRET"}`,
	`{"name":"moved","path":"BASE/moved.csv?sig=SECRET","schema":SCHEMA}`,
	`{"name":"streamed","path":"BASE/s.csv?sig=SECRET","dpp:streamedFrom":"BASE/s.csv?sig=SECRET","dpp:streaming":true,"schema":SCHEMA}`,
	`{"name":"geo","path":"BASE/x.geojson?sig=SECRET"}`,
	`{"name":"bad-rows","path":"BASE/bad.csv?sig=SECRET","schema":SCHEMA}`,
	`{"name":"absent","path":"BASE/absent.csv?sig=SECRET","schema":SCHEMA}`,
	`{"name":"page","path":"BASE/page.csv?sig=SECRET","schema":SCHEMA}`,
	`{"name":"nowhere","path":"http://127.0.0.1:1/t.csv?sig=SECRET","schema":SCHEMA}`,
	`{"name":"wrong-format","path":"BASE/t.xlsx?sig=SECRET","schema":SCHEMA}`,
	`{"name":"broken","path":"BASE/broken.csv?sig=SECRET","schema":SCHEMA}`,
	`{"name":"loop","path":"BASE/loop.csv?sig=SECRET","schema":SCHEMA}`,
}

// secretSources answers requests that carry the secret, and no others.
func secretSources(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.RawQuery, "hunter2") {
		http.Error(w, "no signature", http.StatusForbidden)
		return
	}
	switch r.URL.Path {
	case "/moved.csv":
		http.Redirect(w, r, "/direct.csv?other=hunter2", http.StatusFound)
	case "/loop.csv":
		http.Redirect(w, r, "/loop.csv?again=hunter2", http.StatusFound)
	case "/bad.csv":
		_, _ = io.WriteString(w, "id,name\nx,one\n")
	case "/absent.csv":
		http.NotFound(w, r)
	case "/page.csv":
		_, _ = io.WriteString(w, "<!DOCTYPE html><html><body>sign in</body></html>")
	case "/broken.csv":
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, small)
	case "/x.geojson":
		_, _ = io.WriteString(w, `{"type":"FeatureCollection","features":[]}`)
	default:
		_, _ = io.WriteString(w, small)
	}
}

// TestToldSecrets: what a runner elsewhere reports of a flow is shown to strangers without
// what is secret in addresses.
func TestToldSecrets(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op", runner: registry.External})
	token := s.token("me", auth.ServiceSource)
	for range 2 {
		flow := s.upload(spec("me", "a", "published", "https://example.com/t.csv?sig=hunter2"), token)
		for id := range s.status(flow, token).Pipelines {
			s.news(id, `"event":"start","log":["reading https://example.com/t.csv?sig=hunter2"]`)
			s.news(id, `"event":"finish","success":true,"log":["read https://u:hunter2@example.com/t.csv?sig=hunter2#hunter2"],
				"stats":{".dpp":{"out-datapackage-url":"https://example.com/p?sig=hunter2"},"https://example.com/t.csv?sig=hunter2":1,"read":["https://example.com/t.csv?sig=hunter2"]}`)
		}
	}
	if st := s.status("me/a/2", token); st.State != "SUCCEEDED" {
		t.Fatal(st)
	}
	s.everyAnswer("me/a", []string{"t_csv", "a", "t", "validation_report", "datapackage_zip"}, func(what, answer string) {
		if strings.Contains(answer, "hunter2") {
			t.Errorf("%s shows the secret: %.300s", what, answer)
		}
	})
}

// TestSecretsOfSources: what is secret in the address of a source is in nothing that a
// stranger can fetch, and in no object of a package, which revisions share: not in those
// of flows that succeed, nor of those that fail.
func TestSecretsOfSources(t *testing.T) {
	t.Parallel()
	s := start(t, options{workers: true, allow: []string{"127.0.0.1"}})
	token := s.token("me", auth.ServiceSource)
	base := s.listen(secretSources)
	resources := func(from, to int) string {
		return strings.NewReplacer("BASE", base, "SECRET", "hunter2", "SCHEMA", `{"fields":[{"name":"id","type":"integer"},{"name":"name","type":"string"}]}`).
			Replace(strings.Join(secretive[from:to], ","))
	}
	body := func(dataset, resources string) string {
		return fmt.Sprintf(`{"meta":{"ownerid":"me","dataset":%q,"findability":"published"},"inputs":[{"kind":"datapackage","url":%q,"parameters":{
			"resource-mapping":{"mapped.csv":%q},"descriptor":{"name":"n","resources":[%s]}}}],
			"outputs":[{"kind":"parquet"},{"kind":"xlsx"},{"kind":"sqlite"}],"schedule":"every 1d"}`,
			dataset, base+"/folder/datapackage.json?sig=hunter2", base+"/mapped.csv?sig=hunter2#hunter2", resources)
	}
	failing := slices.IndexFunc(secretive, func(s string) bool { return strings.Contains(s, `"bad-rows"`) })
	datasets := map[string]string{"succeeds": resources(0, failing), "fails": resources(failing, len(secretive))}
	for dataset, resources := range datasets {
		for range 2 { // the second is made of the first
			flow := s.upload(body(dataset, resources), token)
			st := s.await(flow, token)
			if strings.HasPrefix(st.State, "SUCC") != (dataset == "succeeds") {
				t.Errorf("%s: %s %q", flow, st.State, st.ErrorLog)
			}
			if !strings.Contains(string(st.Spec), "hunter2") {
				t.Errorf("%s does not show its owner the address", flow)
			}
		}
	}
	objects := 0
	unpacked(t, s.data, func(name, content string) {
		objects++
		if strings.Contains(name, "pkgstore") && strings.Contains(content, "hunter2") {
			t.Errorf("the object %s holds the secret: %.300s", name, content)
		}
	})
	if objects < 50 {
		t.Errorf("%d objects", objects)
	}
	for dataset := range datasets {
		var pipelines []string
		for id := range s.status("me/"+dataset+"/1", token).Pipelines {
			pipelines = append(pipelines, id[strings.LastIndexByte(id, '/')+1:])
		}
		s.everyAnswer("me/"+dataset, pipelines, func(what, answer string) {
			if strings.Contains(answer, "hunter2") {
				t.Errorf("%s shows the secret: %.300s", what, answer)
			}
		})
	}
}

// TestRedactedRoutes: where the states of private revisions are shown to all, no answer to a
// stranger says more of what is in them: no name of a resource, a field, a file or a
// pipeline, nothing of a log, an error or stats; and what is not shown cannot be told
// from what is not there.
func TestRedactedRoutes(t *testing.T) {
	t.Parallel()
	const secret = "zebra" // in all that is private
	body := func(dataset, source, step string) string {
		return strings.Replace(fmt.Sprintf(`{"meta":{"ownerid":"me","dataset":%q,"findability":"private"},"schedule":"every 1d","outputs":[{"kind":"zip","parameters":{"out-file":"zebra.zip"}},{"kind":"sqlite"},{"kind":"parquet"}],
			"inputs":[{"kind":"datapackage","parameters":{"resource-mapping":{"zebra.csv":%q},"descriptor":{"name":"zebra","title":"zebra","resources":[
			{"name":"zebra","path":"zebra.csv","schema":{"fields":[{"name":"id","type":"integer"},{"name":"zebra","type":"string"}]}}]}}}],
			"processing":[{"input":"zebra","output":"zebra2","dpp":[STEP]}]}`, dataset, source), "STEP", step, 1)
	}
	check := func(s *server, datasets ...string) {
		for _, dataset := range datasets {
			guesses := []string{"validation_report", "a_csv", "me"}
			s.everyAnswer("me/"+dataset, guesses, func(what, answer string) {
				if strings.Contains(answer, secret) {
					t.Errorf("%s: %s: %.3000s", dataset, what, answer)
				}
			})
			// What exists and is not shown is answered as what does not exist.
			hidden := []string{"zebra", "zebra2_csv", "zebra2_json", "zebra2_csv_preview", "zebra_zip", "validation_report"}
			for _, p := range hidden {
				for _, path := range []string{"/source/me/NAME/1/pipelines/" + p + "/log", "/pkgstore/me/NAME/1/_/" + p + "/datapackage.json", "/source/me/NAME/1/plan", "/source/me/NAME/1/report", "/pkgstore/me/NAME/1/datapackage.json"} {
					got, missing := s.get(strings.Replace(path, "NAME", dataset, 1), ""), s.get(strings.Replace(path, "NAME", "absent", 1), "")
					if got.status != http.StatusNotFound || strings.ReplaceAll(got.body, "/"+dataset, "/absent") != strings.ReplaceAll(missing.body, "/"+dataset, "/absent") {
						t.Errorf("%s: %s: %d %s, where nothing is %s", dataset, path, got.status, got.body, missing.body)
					}
				}
			}
		}
	}
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		s := start(t, options{redact: true, workers: true, allow: []string{"127.0.0.1"}})
		token := s.token("me", auth.ServiceSource)
		base := s.listen(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/zebra.csv" {
				_, _ = io.WriteString(w, "id,zebra\n1,x\n2,\n")
				return
			}
			_, _ = io.WriteString(w, "id,zebra\nzebra,x\n")
		})
		for dataset, source := range map[string]string{"good": base + "/zebra.csv", "bad": base + "/zebra-bad.csv", "gone": "http://127.0.0.1:1/zebra.csv"} {
			for range 2 {
				flow := s.upload(body(dataset, source, `{"run":"delete_fields","parameters":{"resources":"zebra2","fields":["id"]}}`), token)
				if st := s.await(flow, token); (st.State == "SUCCEEDED") != (dataset == "good") {
					t.Errorf("%s: %s %q", flow, st.State, st.ErrorLog)
				}
			}
			if a := s.get("/source/me/"+dataset+"/1", ""); a.status != http.StatusOK {
				t.Errorf("%s: %d %s", dataset, a.status, a.body)
			}
		}
		check(s, "good", "bad", "gone")
	})
	t.Run("elsewhere", func(t *testing.T) {
		t.Parallel()
		s := start(t, options{redact: true, updateToken: "op", runner: registry.External})
		token := s.token("me", auth.ServiceSource)
		for _, dataset := range []string{"queued", "open", "ended"} {
			for range 2 {
				flow := s.upload(body(dataset, somewhere, ""), token)
				for id := range s.status(flow, token).Pipelines {
					if dataset == "queued" {
						break
					}
					s.news(id, `"event":"start","log":["zebra"],"stats":{"zebra":1}`)
					s.news(id, `"event":"progress","log":["zebra"],"stats":{"zebra":1}`)
					if dataset == "ended" {
						s.news(id, `"event":"finish","success":false,"errors":["zebra"],"stats":{"zebra":1}`)
					}
				}
			}
		}
		check(s, "ended") // the events of an open flow have no end
		for _, path := range []string{"open", "open/1", "open/latest", "queued", "queued/1", "queued/latest"} {
			if a := s.get("/source/me/"+path, ""); strings.Contains(a.body, secret) || a.status != http.StatusOK {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
	})
}

// slowReader is an answer that nobody takes before the test ends it.
type slowReader struct {
	*httptest.ResponseRecorder
	once        sync.Once
	begun, goOn chan struct{}
}

func (s *slowReader) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.begun) })
	<-s.goOn
	return s.ResponseRecorder.Write(b)
}

// countingStatus counts how often statuses are read.
type countingStatus struct {
	httpapi.Service
	reads atomic.Int64
}

func (c *countingStatus) Status(ctx context.Context, token, datasetID, which string) (*registry.Revision, error) {
	c.reads.Add(1)
	return c.Service.Status(ctx, token, datasetID, which)
}

// TestSlowReadersOfStatus: long statuses that are taken slowly have one bound of memory
// together; who finds no room reads nothing before there is some, and gets the same.
func TestSlowReadersOfStatus(t *testing.T) {
	t.Parallel()
	s := start(t, options{runner: registry.External})
	me := s.token("me", auth.ServiceSource)
	const size = 12 << 20
	s.upload(strings.Replace(spec("me", "a", "published", "http://example.com/t.csv?sig=x"), `"resources":[`, `"title":"`+strings.Repeat("x", size)+`","resources":[`, 1), me)
	s.create("me", "b", "published", registry.External)
	counted := &countingStatus{Service: s.svc}
	h, left := httpapi.NewWithAnswers(httpapi.Config{Service: counted, Events: s.store, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	ask := func(dataset string) (*slowReader, chan struct{}) {
		w, done := &slowReader{ResponseRecorder: httptest.NewRecorder(), begun: make(chan struct{}), goOn: make(chan struct{})}, make(chan struct{})
		go func() {
			defer close(done)
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/source/me/"+dataset+"/1", http.NoBody))
		}()
		return w, done
	}
	var readers []*slowReader
	var ends []chan struct{}
	for left() >= 2*size+1<<20 {
		w, done := ask("a")
		<-w.begun
		readers, ends = append(readers, w), append(ends, done)
	}
	if n := len(readers); n < 2 || n > httpapi.MaxAnswers/(2*size) {
		t.Fatalf("%d readers have room", n)
	}
	short, shortEnd := ask("b") // which needs none
	<-short.begun
	close(short.goOn)
	<-shortEnd
	last, lastEnd := ask("a")
	select {
	case <-last.begun:
		t.Error("an answer is written for which there is no room")
	default:
	}
	for i, w := range readers {
		close(w.goOn)
		<-ends[i]
	}
	close(last.goOn)
	<-lastEnd
	if got, want := last.Body.String(), readers[0].Body.String(); last.Code != http.StatusOK || got != want || len(got) < size {
		t.Errorf("%d, %d bytes, want %d", last.Code, len(got), len(want))
	}
	if n, want := counted.reads.Load(), int64(len(readers)+2); n != want {
		t.Errorf("%d statuses were read, want %d", n, want)
	}
	if n := left(); n != httpapi.MaxAnswers {
		t.Errorf("%d bytes are left, want %d", n, httpapi.MaxAnswers)
	}
}
