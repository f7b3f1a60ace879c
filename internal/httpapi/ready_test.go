package httpapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/datahq/specstore/internal/httpapi"
)

// TestReady: /readyz answers as what it looks at does, asks at most once a second, and says
// nothing of the cause; /healthz answers all the same.
func TestReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fails error
		asked := 0
		h := httpapi.New(httpapi.Config{Log: slog.New(slog.DiscardHandler), Now: time.Now, Ready: func(ctx context.Context) error {
			asked++
			if end, ok := ctx.Deadline(); !ok || time.Until(end) > time.Second {
				t.Error("the look has no bound of a second")
			}
			return fails
		}})
		get := func(path string, status int) {
			t.Helper()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != status || strings.Contains(w.Body.String(), "secret") || (status == 503) != (w.Header().Get("Retry-After") != "") {
				t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, status)
			}
		}
		get("/readyz", 200)
		fails = errors.New("secret address")
		for range 5 {
			get("/readyz", 200)
		}
		if asked != 1 {
			t.Errorf("it was looked %d times within a second", asked)
		}
		time.Sleep(2 * time.Second)
		get("/readyz", 503)
		get("/healthz", 200)
		time.Sleep(2 * time.Second)
		fails = nil
		get("/readyz", 200)
	})
}
