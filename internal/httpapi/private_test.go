package httpapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/httpapi"
)

// TestPrivate: every route of the code, for everybody, on datasets of each
// findability. What is hidden cannot be told from what is not there.
func TestPrivate(t *testing.T) {
	t.Parallel()
	s := start(t, options{workers: true})
	owner := s.token("me", auth.ServiceSource)
	files := map[string]string{} // a published file of each dataset
	for _, findability := range []string{"published", "unlisted", "private"} {
		source := s.file("me", "id,name\n1,x\n")
		flow := s.upload(spec("me", findability, findability, source), owner)
		if st := s.await(flow, owner); st.State != "SUCCEEDED" {
			t.Fatalf("%s: %s %q", flow, st.State, st.ErrorLog)
		}
		var d struct{ Resources []struct{ Path string } }
		if err := json.Unmarshal([]byte(s.get("/pkgstore/"+flow+"/datapackage.json", owner).body), &d); err != nil || len(d.Resources) == 0 {
			t.Fatal(err, d)
		}
		files[findability] = strings.TrimPrefix(d.Resources[0].Path, s.http.URL)
	}
	// Where a route says something of a dataset, of the one called NAME; FILE is one of
	// its files. The others say nothing of datasets.
	reads := map[string]string{
		"GET /source/{owner}/{dataset}":                                     "/source/me/NAME",
		"GET /source/{owner}/{dataset}/{revision}":                          "/source/me/NAME/1",
		"GET /source/{owner}/{dataset}/{revision}/events":                   "/source/me/NAME/1/events",
		"GET /source/{owner}/{dataset}/{revision}/plan":                     "/source/me/NAME/latest/plan",
		"GET /source/{owner}/{dataset}/{revision}/pipelines/{pipeline}/log": "/source/me/NAME/1/pipelines/NAME/log",
		"GET /source/{owner}/{dataset}/{revision}/diff/{other}":             "/source/me/NAME/1/diff/successful",
		"GET /source/{owner}/{dataset}/{revision}/report":                   "/source/me/NAME/1/report",
		"GET /pkgstore/{key...}":                                            "FILE",
	}
	writes := map[string]string{
		"POST /source/{owner}/{dataset}/{revision}/cancel": "/source/me/NAME/1/cancel",
		"POST /source/{owner}/{dataset}/{revision}/retry":  "/source/me/NAME/1/retry",
		"DELETE /source/{owner}/{dataset}":                 "/source/me/NAME",
	}
	elsewhere := []string{ // with tests of their own
		"GET /source/{owner}", "POST /source/{owner}/{dataset}/restore", "POST /source/upload", "POST /source/plan", "POST /source/update", "GET /source-pipelines", "POST /rawstore/authorize", "POST /rawstore/o",
		"GET /rawstore/o/{owner}/{name}", "GET /rawstore/presign", "GET /healthz", "GET /readyz", "GET /openapi.yaml", "GET /schemas/{name}",
		"GET /auth/public-key", "GET /auth/check", "GET /auth/authorize", "GET /auth/get_profile",
	}
	for _, pattern := range httpapi.Patterns() {
		if reads[pattern] == "" && writes[pattern] == "" && !slices.Contains(elsewhere, pattern) {
			t.Errorf("%s is not in this table", pattern)
		}
	}
	path := func(pattern, name string) string {
		p := strings.ReplaceAll(reads[pattern]+writes[pattern], "NAME", name)
		return strings.Replace(p, "FILE", files[name], 1)
	}
	absent := func(pattern, name string) string {
		return strings.ReplaceAll(path(pattern, name), "/me/"+name, "/me/absent")
	}
	type who struct {
		name, token string
		owner       bool
	}
	everybody := []who{
		{"anonymous", "", false},
		{"stranger", s.token("you", ""), false},
		{"another service", s.token("me", auth.ServiceRawstore), false},
		{"bad token", "x.y.z", false},
		{"owner", s.token("me", ""), true},
		{"owner's source", owner, true},
		{"owner's frontend", s.token("me", auth.ServiceFrontend), true},
	}
	hidden := func(t *testing.T, method, what, pattern, name, token string) {
		t.Helper()
		got, missing := s.do(method, path(pattern, name), "", "Auth-Token: "+token), s.do(method, absent(pattern, name), "", "Auth-Token: "+token)
		got.checkError(t, what, http.StatusNotFound, "")
		if got.status != missing.status || strings.ReplaceAll(got.body, name, "absent") != missing.body {
			t.Errorf("%s: %s can be told from %s", what, got.body, missing.body)
		}
		got.header.Del("Date")
		missing.header.Del("Date")
		got.header.Del("Content-Length")
		missing.header.Del("Content-Length")
		for h := range got.header {
			if got.header.Get(h) != missing.header.Get(h) {
				t.Errorf("%s: %s is %q, and %q where nothing is", what, h, got.header.Get(h), missing.header.Get(h))
			}
		}
	}
	for pattern := range reads {
		for name := range files {
			for _, w := range everybody {
				what := w.name + ": " + name + ": " + pattern
				if name == "private" && !w.owner {
					hidden(t, "GET", what, pattern, name, w.token)
					continue
				}
				if a := s.do("GET", path(pattern, name), "", "Auth-Token: "+w.token); a.status != http.StatusOK {
					t.Errorf("%s: %d %s", what, a.status, a.body)
				} else if h := a.header; !strings.Contains(pattern, "/events") && (!strings.Contains(h.Get("Vary"), "Auth-Token") || !strings.HasSuffix(h.Get("Cache-Control"), "no-cache")) {
					t.Errorf("%s: %v", what, h)
				}
			}
		}
	}
	for pattern := range writes {
		method, _, _ := strings.Cut(pattern, " ")
		for name := range files {
			for _, w := range everybody {
				what := w.name + ": " + name + ": " + pattern
				switch {
				case w.owner && !strings.HasSuffix(w.name, "frontend"): // it may, and would
				case name == "private" && !w.owner:
					hidden(t, method, what, pattern, name, w.token)
				default:
					if a := s.do(method, path(pattern, name), "", "Auth-Token: "+w.token); a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
						t.Errorf("%s: %d %s", what, a.status, a.body)
					}
				}
			}
		}
	}
	// The list of datasets shows strangers the published ones, and the owner all.
	for _, w := range everybody {
		want := 1
		if w.owner {
			want = 3
		}
		a := s.do("GET", "/source/me", "", "Auth-Token: "+w.token)
		var out struct{ Datasets []struct{ Name string } }
		if err := json.Unmarshal([]byte(a.body), &out); err != nil || len(out.Datasets) != want {
			t.Errorf("%s lists %s", w.name, a.body)
		}
	}
	if a, b := s.get("/source/nobody", ""), s.get("/source/you", ""); a.status != http.StatusOK || a.body != b.body {
		t.Errorf("%d %s, %s", a.status, a.body, b.body)
	}
	for _, w := range everybody {
		if a := s.do("GET", "/source/me/private/1", "", "Authorization: Bearer "+w.token); (a.status == http.StatusOK) != w.owner {
			t.Errorf("%s as bearer: %d", w.name, a.status)
		}
		if a := s.get("/source/me/private/1?jwt="+w.token, ""); (a.status == http.StatusOK) != w.owner {
			t.Errorf("%s in the query: %d", w.name, a.status)
		}
	}
}
