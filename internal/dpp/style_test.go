package dpp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/dpp"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/testkit"
)

// service answers each path with a text; others with a page, as versions from 2.1 do.
func service(t *testing.T, style dpp.Style, answers map[string]string) *dpp.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.Method+" "+r.URL.RequestURI()]
		switch {
		case text == "404":
			http.NotFound(w, r)
			return
		case strings.HasPrefix(text, "{") && strings.HasPrefix(r.URL.Path, "/dpp/api/"):
			w.Header().Set("Content-Type", "application/json")
		case !ok:
			text = "<html>"
		}
		io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return testkit.Must(dpp.New(s.URL+"/dpp", style))(t)
}

func TestStyle(t *testing.T) {
	t.Parallel()
	unknown := `{"progress": null, "results": null}`
	for want, answers := range map[dpp.Style]map[string]string{
		dpp.Refresh: {"GET /dpp/api/refresh": `{"ok": true}`},
		dpp.Runner:  {"GET /dpp/?uid=none": unknown},
		dpp.Poll:    {},
	} {
		if style, err := service(t, dpp.Auto, answers).Style(t.Context()); style != want || err != nil {
			t.Errorf("%s, %v, want %s", style, err, want)
		}
	}
	if style, err := service(t, dpp.Poll, map[string]string{"GET /dpp/api/refresh": `{"ok": true}`}).Style(t.Context()); style != dpp.Poll || err != nil {
		t.Errorf("what was set is %s, %v", style, err)
	}
	for text, want := range map[string]dpp.Style{"": dpp.Auto, "auto": dpp.Auto, "refresh": dpp.Refresh, "runner": dpp.Runner, "poll": dpp.Poll} {
		if style, err := dpp.ParseStyle(text); style != want || err != nil {
			t.Errorf("%q is %s, %v", text, style, err)
		}
	}
	if _, err := dpp.ParseStyle("Refresh"); !errs.Is(err, errs.Invalid) {
		t.Errorf("%v", err)
	}
}

func TestPipeline(t *testing.T) {
	t.Parallel()
	c := service(t, dpp.Auto, map[string]string{
		// As 1.7.1 answered, shortened.
		"GET /dpp/api/raw/me/a/1/t_csv": `{"id":"./me/a/1/t_csv","state":"SUCCEEDED","message":"Succeeded","success":true,"dirty":false,
			"queued":1795422462.87,"cache_hash":"7c90","error_log":[],"reason":"load: one\nload: two","stats":{"count_of_rows":2500},
			"pipeline":{"pipeline":[{"run":"rows"}],"hooks":["http://s/source/update?token=a"]},"source":null}`,
		"GET /dpp/api/raw/me/a/1~2": `{"state":"INVALID","dirty":true,"success":null,"reason":null,"stats":null,"trigger":null,
			"error_log":["Dependency unsuccessful :Cannot run until dependency \"./x\" is successfully executed"]}`,
		"GET /dpp/api/raw/me/a/1/none": "404",
		"GET /dpp/api/raw/me/a/1/odd":  `{"state":`,
	})
	p := testkit.Must(c.Pipeline(t.Context(), "me/a/1/t_csv"))(t)
	if p.State != "SUCCEEDED" || p.Dirty || p.Log != "load: one\nload: two" || string(p.Stats) != `{"count_of_rows":2500}` || !slices.Equal(p.Hooks, []string{"http://s/source/update?token=a"}) {
		t.Errorf("%+v", p)
	}
	if p := testkit.Must(c.Pipeline(t.Context(), "me/a/1~2"))(t); p.State != "INVALID" || !p.Dirty || len(p.ErrorLog) != 1 || p.Log != "" {
		t.Errorf("%+v", p)
	}
	if _, err := c.Pipeline(t.Context(), "me/a/1/none"); !errs.Is(err, errs.NotFound) {
		t.Errorf("unknown: %v", err)
	}
	for _, id := range []string{"me/a/1/odd", "me/a/1/page"} {
		if _, err := c.Pipeline(t.Context(), id); !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestRun reads what a real dpp-runner answered at the end, and what it does before.
func TestRun(t *testing.T) {
	t.Parallel()
	final := string(testkit.Must(os.ReadFile(filepath.Join(testkit.Shared(t, "cases", "hooks"), "dpp-runner-final-171.json")))(t))
	c := service(t, dpp.Runner, map[string]string{
		"POST /dpp/":           `{"uid": "0123"}`,
		"GET /dpp/?uid=0123":   final,
		"GET /dpp/?uid=begun":  `{"progress": {}, "results": {}}`,
		"GET /dpp/?uid=half":   `{"progress": {"./good": {"done": false, "success": null, "rows": 100, "errors": null, "stats": null}}, "results": {}}`,
		"GET /dpp/?uid=lost":   `{"progress": null, "results": null}`,
		"GET /dpp/?uid=wrong1": `{"progress": 5, "results": []}`,
		"GET /dpp/?uid=wrong2": `{"progress": {}, "results": [5]}`,
		"GET /dpp/?uid=other":  `{"ok": true}`,
	})
	if uid, err := c.Post(t.Context(), []byte(`{}`)); uid != "0123" || err != nil {
		t.Errorf("%q, %v", uid, err)
	}
	r := testkit.Must(c.Run(t.Context(), "0123"))(t)
	ends := map[string]bool{}
	for _, e := range r.Results {
		ends[e.ID] = e.Success
	}
	if p := r.Progress["./bad"]; len(ends) != 4 || !ends["./good"] || ends["./bad"] || ends["./dep-on-bad"] || !p.Done || *p.Success || p.Errors[0] != "boom" || *r.Progress["./good"].Rows != 600 {
		t.Errorf("%+v", r)
	}
	if r := testkit.Must(c.Run(t.Context(), "begun"))(t); r.Results != nil || len(r.Progress) != 0 {
		t.Errorf("%+v", r)
	}
	if r := testkit.Must(c.Run(t.Context(), "half"))(t); r.Results != nil || r.Progress["./good"].Done {
		t.Errorf("%+v", r)
	}
	if _, err := c.Run(t.Context(), "lost"); !errs.Is(err, errs.NotFound) {
		t.Errorf("lost: %v", err)
	}
	for _, uid := range []string{"wrong1", "wrong2", "other", "page"} {
		if _, err := c.Run(t.Context(), uid); !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", uid, err)
		}
	}
	if _, err := service(t, dpp.Runner, nil).Post(t.Context(), nil); !errs.Is(err, errs.Unavailable) {
		t.Errorf("post: %v", err)
	}
}
