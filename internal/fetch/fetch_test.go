package fetch_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/fetch"
)

func client(t *testing.T, allow ...string) *fetch.Client {
	t.Helper()
	c, err := fetch.New(fetch.Config{Allow: allow, HeaderTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func server(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "text") })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	mux.HandleFunc("/other", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+strings.Replace(r.Host, "127.0.0.1", "[::1]", 1)+"/ok", http.StatusFound)
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "text")
	})
	mux.HandleFunc("/stall", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "text")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestOpen(t *testing.T) {
	t.Parallel()
	s := server(t)
	c := client(t, "127.0.0.0/8")
	for _, c2 := range []struct {
		path string
		kind errs.Kind
		want string
	}{
		{"/ok", 0, ""}, {"/ok#.csv", 0, ""}, {"/moved", 0, ""},
		{"/none", errs.Invalid, "404 Not Found"},
		{"/broken", errs.Unavailable, "502 Bad Gateway"},
		{"/loop", errs.Invalid, "more than 5 times"},
		{"/file", errs.Invalid, "http and https only"},
		{"/other", errs.Invalid, "not public"},
		{"/short", errs.Unavailable, "broke off"},
		{"/stall", errs.Unavailable, "sent nothing"},
		{"/silent", errs.Unavailable, "did not answer in time"},
	} {
		body, _, err := c.Open(t.Context(), s.URL+c2.path)
		text := ""
		if err == nil {
			var b []byte
			b, err = io.ReadAll(body)
			text = string(b)
			body.Close()
		}
		if c2.want == "" {
			if err != nil || text != "text" {
				t.Errorf("%s: %q, %v", c2.path, text, err)
			}
			continue
		}
		if !errs.Is(err, c2.kind) || !strings.Contains(errs.Detail(err), c2.want) {
			t.Errorf("%s: %v, want %q", c2.path, err, c2.want)
		}
	}
}

// TestNotPublic: addresses that a stranger must not make us talk to.
func TestNotPublic(t *testing.T) {
	t.Parallel()
	c := client(t)
	for _, host := range []string{
		"127.0.0.1", "localhost", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
		"192.0.2.1", "198.18.0.1", "[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:db8::1]", "[::127.0.0.1]",
		"2130706433", "0x7f.1", "127.1",
	} {
		_, _, err := c.Open(t.Context(), "http://"+host+":1/x")
		if err == nil {
			t.Errorf("%s was reached", host)
			continue
		}
		// A host that is no address may be unknown; it must not be dialled.
		if d := errs.Detail(err); !strings.Contains(d, "not public") && !strings.Contains(d, "no such host") && !strings.Contains(d, "cannot be reached") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	s := server(t)
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	for _, allow := range []string{"127.0.0.1", "127.0.0.1/32", "127.0.0.1" + port, "localhost"} {
		host := "127.0.0.1"
		if allow == "localhost" {
			host = allow
		}
		body, _, err := client(t, allow).Open(t.Context(), "http://"+host+port+"/ok")
		if err != nil {
			t.Errorf("%s: %v", allow, err)
			continue
		}
		body.Close()
	}
	if _, err := fetch.New(fetch.Config{Allow: []string{"10.0.0.0/99"}}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a bad block: %v", err)
	}
	if _, _, err := client(t).Open(t.Context(), "http://user:pass@example.org/"); !errs.Is(err, errs.Invalid) {
		t.Errorf("a password: %v", err)
	}
}
