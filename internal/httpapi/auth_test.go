package httpapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/registry"
)

// TestProfile: an owner of published datasets is found by name and by ID; that somebody
// has something private is not told.
func TestProfile(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	s.create("me", "a", "published", registry.External)
	s.create("hidden", "a", "private", registry.External)
	for name, found := range map[string]bool{"me": true, "hidden": false, "nobody": false, "": false} {
		a := s.get("/auth/get_profile?username="+name, "")
		if a.status != http.StatusOK || strings.Contains(a.body, `"found":true`) != found || strings.Contains(a.body, `"id":"me"`) != found {
			t.Errorf("%q: %d %s", name, a.status, a.body)
		}
	}
}

// TestForward: where another server issues tokens its answers are handed on, with what
// says who asks and nothing else.
func TestForward(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/auth/check":
			if r.Header.Get("Cookie") != "" || r.Header.Get("Auth-Token") != "T" || r.URL.Query().Get("next") != "x&y" {
				t.Errorf("%s %v", r.URL, r.Header)
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Set-Cookie", "secret")
			io.WriteString(w, `{"authenticated":false,"providers":{"google":{"url":"u"}}}`)
		case "/auth/authorize":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"error":{"message":"no"}}`)
		case "/auth/public-key":
			http.Redirect(w, r, "http://elsewhere.example/", http.StatusFound)
		case "/auth/get_profile":
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<script>")
		}
	}))
	defer other.Close()
	s := start(t, options{authServer: other.URL})
	a := s.do("GET", "/auth/check?next=x%26y", "", "Auth-Token: T", "Cookie: c")
	if a.status != http.StatusOK || !strings.Contains(a.body, "google") || a.header.Get("Set-Cookie") != "" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	s.get("/auth/authorize?service=source", "").checkError(t, "authorize", http.StatusUnauthorized, "no")
	for _, path := range []string{"/auth/public-key", "/auth/get_profile"} {
		a := s.get(path, "")
		a.checkError(t, path, http.StatusServiceUnavailable, "auth server")
		if strings.Contains(a.body, "127.0.0.1") || a.header.Get("Retry-After") == "" {
			t.Errorf("%s %v", a.body, a.header)
		}
	}
	other.Close()
	s.get("/auth/check?jwt=secret", "").checkError(t, "away", http.StatusServiceUnavailable, "auth server")
}
