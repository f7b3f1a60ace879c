package httpapi_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/testkit"
)

// TestRoutes: what is not there, or not with this method, is said in JSON.
func TestRoutes(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	s.create("me", "a", "published", registry.Embedded)
	const reading, writing = "GET, HEAD, OPTIONS", "POST, OPTIONS"
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/nothing", 404, ""},
		{"POST", "/nothing", 404, ""},
		{"GET", "/source", 404, ""},
		{"GET", "/source/me/a/1/", 404, ""},
		{"GET", "/source//a/1", 404, ""},
		{"GET", "//source/me/a/1", 404, ""},
		{"GET", "/source/me/../me/a/1", 404, ""},
		{"GET", "/./source/me/a/1", 404, ""},
		{"GET", "/source/upload", 405, writing},
		{"DELETE", "/source/upload", 405, writing},
		{"GET", "/source/plan", 405, writing},
		{"POST", "/source/me", 405, reading},
		{"PUT", "/source/me/a", 405, "GET, HEAD, DELETE, OPTIONS"},
		{"OPTIONS", "/source/me/a", 204, "GET, HEAD, DELETE, OPTIONS"},
		{"PUT", "/source/upload", 405, writing},
		{"GET", "/source/update", 405, writing},
		{"POST", "/source/me/a/1", 405, reading},
		{"DELETE", "/source/me/a/1", 405, reading},
		{"PATCH", "/source/me/a/1", 405, reading},
		{"TRACE", "/source/me/a/1", 405, reading},
		{"PROPFIND", "/source/me/a/1", 405, reading},
		{"GET", "/source/me/a/1/cancel", 405, writing},
		{"POST", "/pkgstore/me/a/1/datapackage.json", 405, reading},
		{"PUT", "/rawstore/o", 405, writing},
		{"OPTIONS", "/nothing", 404, ""},
		{"OPTIONS", "/source/me/a/1", 204, reading},
		{"OPTIONS", "/source/upload", 204, writing},
		{"HEAD", "/source/me/a/1", 200, ""},
		{"HEAD", "/healthz", 200, ""},
		{"HEAD", "/nothing", 404, ""},
		{"HEAD", "/source/upload", 405, writing},
		{"GET", "/healthz", 200, ""},
		{"GET", "/readyz", 200, ""},
		{"POST", "/readyz", 405, reading},
	} {
		name := c.method + " " + c.path
		a := s.do(c.method, c.path, "", "Origin: http://other.example")
		if a.status != c.status || a.header.Get("Allow") != c.allow {
			t.Errorf("%s: %d, Allow %q; want %d, %q", name, a.status, a.header.Get("Allow"), c.status, c.allow)
		}
		if c.status >= 400 && c.method != "HEAD" {
			a.checkError(t, name, c.status, "")
		}
		if c.method == "HEAD" && a.body != "" {
			t.Errorf("%s has a body", name)
		}
		h := a.header
		if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", name, h)
		}
		if methods, headers := h.Get("Access-Control-Allow-Methods"), h.Get("Access-Control-Allow-Headers"); c.status == 204 {
			// Pages of other origins read and do not write.
			reads := strings.HasPrefix(c.allow, "GET")
			if reads != (methods == "GET, HEAD") || reads != strings.Contains(headers, "Auth-Token") {
				t.Errorf("%s: %v", name, h)
			}
		}
	}
}

// TestOddRequests: requests that no client library sends get an answer, and no 5xx.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	for _, line := range []string{
		"CONNECT example.com:443", "CONNECT /source/upload", "GET *", "OPTIONS *", "GET http://other.example/healthz", "GET /%", "GET /source/%2e%2e/a/1",
		"GET /pkgstore/%2e%2e/%2e%2e/registry.db", "GET /source/a/b/1?jwt=%zz&%", "get /healthz", "GET /source/upload/cancel/retry",
	} {
		conn := testkit.Must(net.Dial("tcp", s.http.Listener.Addr().String()))(t)
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", line)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		} else if res.StatusCode >= 500 {
			t.Errorf("%s: %s", line, res.Status)
		}
		conn.Close()
	}
}

// TestAuth: the embedded issuer.
func TestAuth(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	if a := s.get("/auth/public-key", ""); a.body != s.issuer.PublicKeyPEM() || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Errorf("%d %s", a.status, a.body)
	}
	user := s.sign(auth.Claims{UserID: "me", UserName: "ann", MaxDatasets: 3})
	if a := s.get("/auth/check?jwt="+user, ""); !strings.Contains(a.body, `"authenticated":true`) || !strings.Contains(a.body, `"id":"me"`) || !strings.Contains(a.body, `"username":"ann"`) {
		t.Error(a.body)
	}
	for _, token := range []string{"", "undefined", user + "x"} {
		if a := s.get("/auth/check?jwt="+token, ""); a.status != http.StatusOK || !strings.Contains(a.body, `"authenticated":false`) {
			t.Errorf("%q: %d %s", token, a.status, a.body)
		}
	}
	a := s.get("/auth/authorize?service=source", user)
	var out struct {
		Token, UserID, Service string
		Permissions            map[string]int
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || out.UserID != "me" || out.Service != "source" || out.Permissions["max_dataset_num"] != 3 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a token may be kept: %v", a.header)
	}
	if flow := s.upload(spec("me", "a", "published", somewhere), out.Token); flow != "me/a/1" {
		t.Error(flow)
	}
	s.get("/auth/authorize?service=x", user).checkError(t, "unknown service", http.StatusBadRequest, "service must be one of")
	s.get("/auth/authorize?service=source", "").checkError(t, "no token", http.StatusUnauthorized, denied)
	s.get("/auth/authorize?service=rawstore", out.Token).checkError(t, "service token", http.StatusUnauthorized, denied)
}

// TestFault: a fault of ours is an answer like any other for the client, and whole in
// the log.
func TestFault(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := httptest.NewRecorder()
	httpapi.Faulty(slog.New(slog.NewTextHandler(&log, nil))).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/x", nil))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), "internal error") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "secret of the fault") || !strings.Contains(log.String(), "export_test.go") {
		t.Errorf("the log is %s", log.String())
	}
}
