package dpp_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/dpp"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/testkit"
)

func TestNew(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "pipelines:5000", "ftp://h/", "http://", "http://me:secret@h/", "http://h/?a=b", "http://me:sec\nret@h/"} {
		if _, err := dpp.New(address, dpp.Auto); !errs.Is(err, errs.Invalid) || strings.Contains(err.Error(), "sec") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestProbeAndRefresh(t *testing.T) {
	t.Parallel()
	answer := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for name, c := range map[string]struct {
		handler         http.HandlerFunc
		there           bool
		refreshed, says string
	}{
		"good":                {answer(200, "application/json", `{"ok": true}`), true, "", ""},
		"good, with charset":  {answer(200, "application/json; charset=utf-8", `{"ok": true}`), true, "", ""},
		"a page for any path": {answer(200, "text/html", `<html>`), true, "", "has no refresh"},
		"not done":            {answer(200, "application/json", `{"ok": false}`), true, "", "did not"},
		"not JSON":            {answer(200, "application/json", `{`), true, "", "EOF"},
		"endless":             {answer(200, "application/json", `{"x":"`+strings.Repeat("x", 1<<20)), true, "", "EOF"},
		"not found":           {answer(404, "text/html", ``), true, "", "404"},
		"broken":              {answer(500, "text/html", ``), false, "", "500"},
		"sends elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, true, "", "302"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.Method + " " + r.URL.Path
				c.handler(w, r)
			}))
			defer s.Close()
			for _, slash := range []string{"", "/"} {
				client := testkit.Must(dpp.New(s.URL+"/base"+slash, dpp.Auto))(t)
				if err := client.Probe(t.Context()); (err == nil) != c.there || err != nil && !errs.Is(err, errs.Unavailable) {
					t.Errorf("probe: %v", err)
				}
				err := client.Refresh(t.Context())
				if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("refresh: %v", err)
				}
				if asked != "GET /base/api/refresh" {
					t.Errorf("asked %s", asked)
				}
			}
		})
	}
}

// A service that is away, or that says nothing, is told from one that is there.
func TestAway(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	silent := testkit.Must(dpp.New(s.URL, dpp.Auto))(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	closed := httptest.NewServer(nil)
	gone := testkit.Must(dpp.New(closed.URL, dpp.Auto))(t)
	closed.Close()
	for _, c := range []*dpp.Client{silent, gone} {
		err := c.Probe(ctx)
		if !errs.Is(err, errs.Unavailable) || strings.Contains(errs.Detail(err), "127.0.0.1") {
			t.Errorf("probe: %v", err)
		}
		if err := c.Refresh(ctx); err == nil {
			t.Error("refreshed")
		}
	}
}

// TestProbeIsShared: those that ask at the same time, and soon after, share one request.
func TestProbeIsShared(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	hold := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		<-hold
	}))
	defer s.Close()
	c := testkit.Must(dpp.New(s.URL, dpp.Auto))(t)
	// Who goes away does not end it for the others.
	gone, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Probe(gone) })
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	leave()
	for range 50 {
		wg.Go(func() {
			if err := c.Probe(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	close(hold)
	wg.Wait()
	for range 10 {
		if err := c.Probe(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := asked.Load(); n > 2 { // a machine that stood still for a second asks again
		t.Errorf("the service was asked %d times for 61 answers", n)
	}
}
