package httpapi_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// options are what servers differ in.
type options struct {
	workers     bool // flows are run; else they stay queued
	eraseWait   time.Duration
	redact      bool
	updateToken string
	// anonymousUpdates allows updates without a token to programs of this machine.
	anonymousUpdates bool
	publicURL        string // empty: the address that is listened on
	authServer       string // tokens are another server's
	runner           registry.Runner
	dpp              service.Pipelines // for the runner of that name
	allow            []string          // hosts of this machine that sources are read from
}

// server is the routes over the real parts.
type server struct {
	*testing.T
	http   *httptest.Server
	issuer *auth.Issuer
	store  *registry.Store
	svc    *service.Service
	db     *sqldb.DB
	stop   func() // as when the server stops
	data   string // folder of the stores
}

// database is the kind of database that the tests of this package run on.
var database = flag.String("database", string(sqldb.SQLite), "sqlite or postgres")

func start(t *testing.T, o options) *server {
	t.Helper()
	h := httptest.NewUnstartedServer(nil)
	base := cmp.Or(o.publicURL, "http://"+h.Listener.Addr().String())
	parts := servicetest.Options{Database: testkit.DB(t, sqldb.Dialect(*database)), PublicURL: base, Redact: o.redact, EraseWait: o.eraseWait, Runner: o.runner, DPP: o.dpp, Data: t.TempDir(), Fetch: fetch.Config{Allow: o.allow}}
	var remote *auth.RemoteKeys
	if o.authServer != "" {
		remote = testkit.Must(auth.NewRemoteKeys(o.authServer, nil))(t)
		parts.Keys, parts.Profiles = remote, remote
	}
	f := servicetest.New(t, parts)
	s := &server{T: t, http: h, store: f.Registry, svc: f.Service, db: f.DB, issuer: f.Issuer, data: parts.Data}
	handed := f.Issuer
	if o.authServer != "" {
		handed = nil
	}
	if o.workers {
		if err := f.Queue.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Queue.Stop(context.WithoutCancel(t.Context())) })
	}
	stopping := make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(stopping) })
	h.Config.Handler = httpapi.New(httpapi.Config{
		Service: f.Service, Events: f.Registry, Packages: f.Packages, Raw: f.Raw, Verifier: f.Verifier, Issuer: handed, AuthServer: remote, PublicURL: base,
		UpdateToken: o.updateToken, AnonymousUpdates: o.anonymousUpdates, Stopping: stopping, Now: time.Now, Log: f.Log,
	})
	h.Start()
	t.Cleanup(h.Close)
	t.Cleanup(s.stop)
	return s
}

// listen serves another address, for the time of the test.
func (s *server) listen(h http.HandlerFunc) (url string) {
	other := httptest.NewServer(h)
	s.Cleanup(other.Close)
	return other.URL
}

// token signs a token of an owner for a service; a user token for none.
func (s *server) token(owner, service string) string {
	s.Helper()
	return s.sign(auth.Claims{UserID: owner, Service: service, MaxDatasets: 100})
}

func (s *server) sign(c auth.Claims) string {
	s.Helper()
	return testkit.Must(s.issuer.Sign(c, time.Now()))(s)
}

// answer is an answer that was read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; headers are "Name: value".
func (s *server) do(method, path, body string, headers ...string) answer {
	s.Helper()
	req := testkit.Must(http.NewRequestWithContext(s.Context(), method, s.http.URL+path, strings.NewReader(body)))(s)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	res := testkit.Must(s.http.Client().Transport.RoundTrip(req))(s) // which follows no redirects
	defer res.Body.Close()
	a := answer{res.StatusCode, res.Header, string(testkit.Must(io.ReadAll(res.Body))(s))}
	testkit.Must(document())(s).check(s, method, path, a)
	return a
}

// get reads as the owner of a token, or as nobody.
func (s *server) get(path, token string) answer {
	s.Helper()
	if token == "" {
		return s.do("GET", path, "")
	}
	return s.do("GET", path, "", "Auth-Token: "+token)
}

const asJSON = "Content-Type: application/json"

// upload sends a spec that must be accepted, and gives the flow's ID.
func (s *server) upload(spec, token string) string {
	s.Helper()
	a := s.do("POST", "/source/upload", spec, asJSON, "Auth-Token: "+token)
	var out struct {
		Success bool
		FlowID  string `json:"flow_id"`
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != http.StatusOK || !out.Success || out.FlowID == "" {
		s.Fatalf("upload: %d %s", a.status, a.body)
	}
	return out.FlowID
}

// checkError holds an answer against the form of all errors.
func (a answer) checkError(t testing.TB, name string, status int, text string) {
	t.Helper()
	var out struct {
		Error *struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	err := json.Unmarshal([]byte(a.body), &out)
	if a.status != status || err != nil || out.Error == nil || !strings.Contains(out.Error.Message, text) ||
		!strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: %d %.300s (%s), want %d with %q", name, a.status, a.body, a.header.Get("Content-Type"), status, text)
	}
}

// spec is a Flow-Spec of one table, which lies at an address.
func spec(owner, dataset, findability, address string) string {
	return fmt.Sprintf(`{"meta":{"ownerid":%q,"dataset":%q,"findability":%q},"inputs":[{"kind":"datapackage","parameters":{
		"resource-mapping":{"t.csv":%q},"descriptor":{"resources":[
		{"name":"t","path":"t.csv","schema":{"fields":[{"name":"id","type":"integer"},{"name":"name","type":"string"}]}}]}}}]}`, owner, dataset, findability, address)
}

// somewhere is an address that no flow of these tests reads.
const somewhere = "http://example.com/t.csv"

// leave asks for leave to upload a file.
func (s *server) leave(owner, token, content string) (url string, fields map[string]string) {
	s.Helper()
	sum := md5.Sum([]byte(content))
	body := fmt.Sprintf(`{"metadata":{"owner":%q},"filedata":{"t.csv":{"length":%d,"md5":%q,"name":"t.csv"}}}`,
		owner, len(content), base64.StdEncoding.EncodeToString(sum[:]))
	a := s.do("POST", "/rawstore/authorize", body, asJSON, "Auth-Token: "+token)
	var out struct {
		Files map[string]struct {
			URL    string            `json:"upload_url"`
			Fields map[string]string `json:"upload_query"`
		} `json:"filedata"`
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != http.StatusOK {
		s.Fatalf("authorize: %d %s", a.status, a.body)
	}
	return out.Files["t.csv"].URL, out.Files["t.csv"].Fields
}

// form is a multipart form with fields and a file.
func (s *server) form(fields map[string]string, content string) (body, header string) {
	s.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for k, v := range fields {
		if err := m.WriteField(k, v); err != nil {
			s.Fatal(err)
		}
	}
	if _, err := io.WriteString(testkit.Must(m.CreateFormFile("file", "t.csv"))(s), content); err != nil {
		s.Fatal(err)
	}
	if err := m.Close(); err != nil {
		s.Fatal(err)
	}
	return b.String(), "Content-Type: " + m.FormDataContentType()
}

// file uploads a file as clients do and gives its address.
func (s *server) file(owner, content string) string {
	s.Helper()
	url, fields := s.leave(owner, s.token(owner, auth.ServiceRawstore), content)
	body, header := s.form(fields, content)
	if a := s.do("POST", strings.TrimPrefix(url, s.http.URL), body, header); a.status != http.StatusNoContent {
		s.Fatalf("raw upload: %d %s", a.status, a.body)
	}
	return url + "/" + fields["key"]
}

const small = "id,name\n1,one\n2,two\n"

// await follows a flow to its end.
func (s *server) await(flow, token string) status {
	s.Helper()
	for range 2000 {
		if st := s.status(flow, token); st.State == "SUCCEEDED" || st.State == "FAILED" {
			return st
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.Fatalf("%s does not end", flow)
	return status{}
}

// status is what clients read of an answer to it.
type status struct {
	ID        string
	Spec      json.RawMessage `json:"spec_contents"`
	State     string
	Outcome   *string
	Attempt   int
	ErrorLog  []string `json:"error_log"`
	Logs      []string
	Pipelines map[string]pipelineStatus
	Links     struct{ Self, Events, Package string }
}

type pipelineStatus struct {
	Title, Status string
	ErrorLog      []string `json:"error_log"`
	Stats         json.RawMessage
}

// descriptor is the address of the pipeline's own descriptor.
func (p pipelineStatus) descriptor(t testing.TB) string {
	t.Helper()
	var stats struct {
		DPP struct {
			URL string `json:"out-datapackage-url"`
		} `json:".dpp"`
	}
	if err := json.Unmarshal(p.Stats, &stats); err != nil || stats.DPP.URL == "" {
		t.Fatalf("stats %s: %v", p.Stats, err)
	}
	return stats.DPP.URL
}

func (s *server) status(flow, token string) status {
	s.Helper()
	a := s.get("/source/"+flow, token)
	var st status
	if err := json.Unmarshal([]byte(a.body), &st); err != nil || a.status != http.StatusOK {
		s.Fatalf("status of %s: %d %s", flow, a.status, a.body)
	}
	return st
}
