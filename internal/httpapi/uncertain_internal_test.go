package httpapi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/errs"
)

// TestUncertain: an answer from which clients conclude that nothing was done, which is a
// 503 with Retry-After, is given only where that is known.
func TestUncertain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err        error
		retryAfter string
	}{
		"away":      {errs.New(errs.Unavailable, "op", "the database is not available"), retryAfter},
		"uncertain": {errs.Wrap(errors.Join(errs.ErrUncertain, errors.New("EOF")), errs.Unavailable, "op", "it is not known"), ""},
	} {
		a, w := &api{}, httptest.NewRecorder()
		a.fail(w, statusOf(c.err), c.err)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != c.retryAfter || !strings.Contains(w.Body.String(), errs.Detail(c.err)) {
			t.Errorf("%s: got %d, Retry-After %q, %s; want 503, %q", name, w.Code, w.Header().Get("Retry-After"), w.Body, c.retryAfter)
		}
	}
}
