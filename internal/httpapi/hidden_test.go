package httpapi_test

import (
	"context"
	"crypto/rsa"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// countingKeys counts how often a token was looked at.
type countingKeys struct {
	*auth.Issuer
	looks int
}

func (k *countingKeys) Key(ctx context.Context) (*rsa.PublicKey, error) {
	k.looks++
	return k.Issuer.Key(ctx)
}

// hiding is a server without a network that counts what requests take.
type hiding struct {
	*servicetest.Fixture
	handler    http.Handler
	keys       *countingKeys
	mu         sync.Mutex
	statements []string
}

func newHiding(tb testing.TB, url string) *hiding {
	tb.Helper()
	h := &hiding{keys: &countingKeys{Issuer: testkit.Must(auth.NewIssuer(testkit.Must(auth.GenerateKey())(tb)))(tb)}}
	h.Fixture = servicetest.New(tb, servicetest.Options{
		Database: url, PublicURL: "http://127.0.0.1:8000", Runner: registry.External, Keys: h.keys,
		Trace: func(statements ...string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.statements = append(h.statements, statements...)
		},
	})
	h.handler = httpapi.New(httpapi.Config{
		Service: h.Service, Events: h.Registry, Packages: h.Packages, Raw: h.Raw, Verifier: h.Verifier, Issuer: h.keys.Issuer,
		PublicURL: "http://127.0.0.1:8000", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	return h
}

func (h *hiding) token(tb testing.TB, owner string) string {
	return testkit.Must(h.keys.Sign(auth.Claims{UserID: owner, UserName: "the-" + owner, Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(tb)
}

// taken is what a request took.
type taken struct {
	status     int
	body       string
	statements []string
	looks      int
	bytes      uint64
}

func (h *hiding) ask(tb testing.TB, method, path, token string) taken {
	r := httptest.NewRequest(method, path, http.NoBody).WithContext(context.WithoutCancel(tb.Context()))
	r.Header.Set("Auth-Token", token)
	w := httptest.NewRecorder()
	h.mu.Lock()
	h.statements = nil
	h.mu.Unlock()
	looks := h.keys.looks
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.handler.ServeHTTP(w, r)
	runtime.ReadMemStats(&after)
	h.mu.Lock()
	defer h.mu.Unlock()
	return taken{w.Code, w.Body.String(), slices.Clone(h.statements), h.keys.looks - looks, after.TotalAlloc - before.TotalAlloc}
}

// long is a spec of some size whose dataset is hidden or not.
func long(dataset, findability string, size int) string {
	s := strings.Replace(usual("me", dataset), `"findability":"published"`, fmt.Sprintf(`"findability":%q`, findability), 1)
	return strings.Replace(s, "Hydrogen to krypton", strings.Repeat("x", size), 1)
}

const longSpec = 4 << 20

// TestHiddenAsAbsent: on every route, what is hidden takes the statements, the looks at
// the token and the memory of what is not there, and gives its answer.
func TestHiddenAsAbsent(t *testing.T) {
	testkit.EachDB(t, func(t *testing.T, url string) {
		h := newHiding(t, url)
		me := h.token(t, "me")
		testkit.Must(h.Upload(t.Context(), me, []byte(long("hidden", "private", longSpec)), ""))(t)
		tokens := map[string]string{"no token": "", "garbage": "x.y.z", "a stranger's": h.token(t, "you"), "forged": me[:len(me)-8] + "AAAAAAAA"}
		for _, pattern := range httpapi.Patterns() {
			method, path, _ := strings.Cut(pattern, " ")
			if !strings.Contains(path, "{dataset}") && path != "/pkgstore/{key...}" {
				continue
			}
			for _, which := range []string{"1", "latest", "successful"} {
				at := strings.NewReplacer("{owner}", "me", "{dataset}", "NAME", "{revision}", which, "{other}", which, "{pipeline}", "elements_csv",
					"{key...}", "me/NAME/"+which+"/datapackage.json").Replace(path)
				for who, token := range tokens {
					hidden, absent := strings.ReplaceAll(at, "NAME", "hidden"), strings.ReplaceAll(at, "NAME", "absent")
					h.ask(t, method, hidden, token) // statements are prepared
					was, is := h.ask(t, method, absent, token), h.ask(t, method, hidden, token)
					what := fmt.Sprintf("%s, %s", pattern, who)
					if is.status != http.StatusNotFound || is.status != was.status || strings.ReplaceAll(is.body, "hidden", "absent") != was.body {
						t.Errorf("%s: hidden %d %s, absent %d %s", what, is.status, is.body, was.status, was.body)
					}
					if !slices.Equal(is.statements, was.statements) || len(is.statements) == 0 {
						t.Errorf("%s: hidden takes\n%q\nabsent\n%q", what, is.statements, was.statements)
					}
					if is.looks != was.looks {
						t.Errorf("%s: the token is looked at %d times, and %d times where nothing is", what, is.looks, was.looks)
					}
					if is.bytes > was.bytes+longSpec/16 {
						t.Errorf("%s: hidden takes %d bytes of memory, absent %d", what, is.bytes, was.bytes)
					}
				}
			}
		}
	})
}

// TestNoNeedOfSpec: requests whose answer has no spec in it do not read it.
func TestNoNeedOfSpec(t *testing.T) {
	testkit.EachDB(t, func(t *testing.T, url string) {
		h := newHiding(t, url)
		me := h.token(t, "me")
		for _, findability := range []string{"private", "published"} {
			testkit.Must(h.Upload(t.Context(), me, []byte(long(findability, findability, longSpec)), ""))(t)
			for _, request := range []struct {
				path   string
				status int
			}{
				{"GET /source/me", http.StatusOK},
				{"GET /source/me/NAME", http.StatusOK},
				{"HEAD /source/me/NAME/1/events", http.StatusOK},
				{"GET /source/me/NAME/1/pipelines/elements_csv/log", http.StatusOK},
				{"GET /source/me/NAME/1/report", http.StatusNotFound},
				{"GET /pkgstore/me/NAME/1/datapackage.json", http.StatusNotFound},
				{"POST /source/me/NAME/1/cancel", http.StatusOK},
				{"POST /source/me/NAME/1/retry", http.StatusConflict},
				{"DELETE /source/me/NAME", http.StatusNoContent},
			} {
				method, path, _ := strings.Cut(strings.ReplaceAll(request.path, "NAME", findability), " ")
				if is := h.ask(t, method, path, me); is.status != request.status || is.bytes > longSpec/4 {
					t.Errorf("%s %s: %d %.200s, %d bytes of memory", method, path, is.status, is.body, is.bytes)
				}
			}
		}
	})
}

// TestOpenStatusReadsSpecOnce: what the status, the plan and the difference of open flows
// cost grows with the answer and the spec, and not with pipelines times spec.
func TestOpenStatusReadsSpecOnce(t *testing.T) {
	testkit.EachDB(t, func(t *testing.T, url string) {
		h := newHiding(t, url)
		me := h.token(t, "me")
		for _, findability := range []string{"private", "published"} {
			many := strings.Replace(long(findability, findability, longSpec/4), `"resources":[`, `"resources":[`+resources(60), 1)
			testkit.Must(h.Upload(t.Context(), me, []byte(many), ""))(t)
			for _, path := range []string{"/source/me/" + findability + "/latest", "/source/me/" + findability + "/1"} {
				h.ask(t, "GET", path, me)
				if is := h.ask(t, "GET", path, me); is.status != http.StatusOK || len(is.body) < longSpec/4 || !underRace && is.bytes > 10*uint64(len(is.body)) {
					t.Errorf("%s: %d, an answer of %d bytes takes %d bytes of memory", path, is.status, len(is.body), is.bytes)
				}
			}
			for path, want := range map[string]int{"/plan": http.StatusRequestEntityTooLarge, "/diff/latest": http.StatusOK} {
				path = "/source/me/" + findability + "/1" + path
				h.ask(t, "GET", path, me)
				is := h.ask(t, "GET", path, me)
				if is.status != want || is.bytes > 400<<20 {
					t.Errorf("%s: %d, an answer of %d bytes takes %d bytes of memory", path, is.status, len(is.body), is.bytes)
				}
				testkit.Must(document())(t).check(t, "GET", path, answer{is.status, http.Header{"Content-Type": {"application/json"}}, is.body})
			}
		}
	})
}

// resources are further tables of a spec.
func resources(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"name":"t%d","path":"http://example.com/t%d.csv","schema":{"fields":[{"name":"id"}]}},`, i, i)
	}
	return b.String()
}

// What is hidden beside what is not there, for a long spec.
func BenchmarkHidden(b *testing.B) {
	for _, kind := range []sqldb.Dialect{sqldb.SQLite, sqldb.Postgres} {
		url := testkit.DB(b, kind)
		h := newHiding(b, url)
		me := h.token(b, "me")
		testkit.Must(h.Upload(b.Context(), me, []byte(long("hidden", "private", 15<<20)), ""))(b)
		for who, token := range map[string]string{"no-token": "", "forged": me[:len(me)-8] + "AAAAAAAA"} {
			for _, name := range []string{"hidden", "absent"} {
				b.Run(string(kind)+"/"+name+"/"+who, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						r := httptest.NewRequest("GET", "/source/me/"+name+"/1", http.NoBody)
						r.Header.Set("Auth-Token", token)
						h.handler.ServeHTTP(httptest.NewRecorder(), r)
					}
				})
			}
		}
	}
}
