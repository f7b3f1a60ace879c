package fetch_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
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
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			http.Error(w, "no gzip", http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprint(z, "text")
		z.Close()
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "text")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/user", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://user:pass@"+r.Host+"/ok", http.StatusFound)
	})
	mux.HandleFunc("/hop/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("n"))
		if n == 0 {
			fmt.Fprint(w, "text")
			return
		}
		http.Redirect(w, r, "/hop/"+strconv.Itoa(n-1), http.StatusFound)
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Referer") != "" || r.Header.Get("Cookie") != "a=b" || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprint(w, "text")
	})
	mux.HandleFunc("/to-headers", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b", Path: "/"})
		http.Redirect(w, r, "/headers", http.StatusFound)
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
		{"/ok", 0, ""},
		{"/ok#.csv", 0, ""},
		{"/moved", 0, ""},
		{"/gzip", 0, ""},
		{"/hop/10", 0, ""},
		{"/to-headers?secret", 0, ""},
		{"/hop/11", errs.Invalid, "more than 10 times"},
		{"/user", errs.Invalid, "must not hold a user"},
		{"/cut", errs.Unavailable, "broke off"},
		{"/none", errs.Invalid, "404 Not Found"},
		{"/broken", errs.Unavailable, "502 Bad Gateway"},
		{"/loop", errs.Invalid, "more than 10 times"},
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
		"2130706433", "0x7f.1", "127.1", "localhost.", "[fec0::1]", "[2001::1]", "[64:ff9b:1::1]", "[ff02::1]", "240.0.0.1", "203.0.113.7",
	} {
		_, _, err := c.Open(t.Context(), "http://"+host+":1/x")
		if err == nil {
			t.Errorf("%s was reached", host)
			continue
		}
		// A host that is no address may be unknown; it must not be dialled.
		if d := errs.Detail(err); !strings.Contains(d, "not public") && !strings.Contains(d, "never read from") && !strings.Contains(d, "no such host") && !strings.Contains(d, "cannot be reached") {
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
	for _, bad := range []string{"10.0.0.0/99", "http://host", "host:", "host:0", "host:99999", "user@host", "*.host", ":80", "10.0.0.0.0:x"} {
		if _, err := fetch.New(fetch.Config{Allow: []string{bad}}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, other := range []string{"127.0.0.1:1", "10.0.0.0/8", "localhost", "::1"} {
		if _, _, err := client(t, other).Open(t.Context(), s.URL+"/ok"); !errs.Is(err, errs.Invalid) {
			t.Errorf("with %s allowed: %v", other, err)
		}
	}
	// The metadata service of a cloud stays out of reach.
	for _, allow := range []string{"169.254.169.254", "0.0.0.0/0"} {
		if _, _, err := client(t, allow).Open(t.Context(), "http://169.254.169.254/latest/"); !errs.Is(err, errs.Invalid) {
			t.Errorf("with %s allowed: %v", allow, err)
		}
	}
	if _, _, err := client(t).Open(t.Context(), "http://user:pass@example.org/"); !errs.Is(err, errs.Invalid) {
		t.Errorf("a password: %v", err)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	s := server(t)
	c := client(t, "127.0.0.1")
	for path, want := range map[string]fetch.Info{
		"/moved?token=x#f": {Size: 4, URL: s.URL + "/ok", ContentType: "text/plain; charset=utf-8"},
		"/ok?token=x":      {Size: 4, URL: s.URL + "/ok", ContentType: "text/plain; charset=utf-8"},
		"/gzip":            {Size: -1, URL: s.URL + "/gzip", ContentType: "application/x-gzip"},
	} {
		body, info, err := c.Open(t.Context(), s.URL+path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		body.Close()
		if path == "/gzip" {
			info.ContentType = want.ContentType // guessed by the server
		}
		if info != want {
			t.Errorf("%s: %+v, want %+v", path, info, want)
		}
	}
}

func TestBrokenOff(t *testing.T) {
	t.Parallel()
	s := server(t)
	c := client(t, "127.0.0.1")
	for _, path := range []string{"/short", "/cut"} {
		body, _, err := c.Open(t.Context(), s.URL+path)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		if _, err := io.ReadAll(body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestSlowReader: who takes his time between reads is not cut off.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 4 {
			fmt.Fprint(w, strings.Repeat("x", 1<<20))
		}
	}))
	defer s.Close()
	c, err := fetch.New(fetch.Config{Allow: []string{"127.0.0.1"}, IdleTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	body, _, err := c.Open(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	time.Sleep(100 * time.Millisecond)
	if _, err := io.ReadFull(body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if n, err := io.Copy(io.Discard, body); err != nil || n != 4<<20-1 {
		t.Errorf("%d, %v", n, err)
	}
}

// TestNoSecrets: what an address holds beside the path stays out of errors.
func TestNoSecrets(t *testing.T) {
	t.Parallel()
	s := server(t)
	dead := httptest.NewServer(nil)
	dead.Close()
	c := client(t, "127.0.0.1")
	for _, address := range []string{s.URL + "/none?sig=hidden", dead.URL + "/?sig=hidden", s.URL + "/silent?sig=hidden", "http://[::1?sig=hidden", "http://a b/?sig=hidden"} {
		_, _, err := c.Open(t.Context(), address)
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := server(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	body, _, err := client(t, "127.0.0.1").Open(ctx, s.URL+"/stall")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	why := errors.New("the flow was cancelled")
	cancel(why)
	if _, err := io.ReadAll(body); !errors.Is(err, why) {
		t.Error(err)
	}
}
