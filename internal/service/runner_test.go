package service_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/dpp"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// pipelines is the HTTP side of a pipelines service: it counts what it is asked, and
// may be down, or of a version that has no refresh.
type pipelines struct {
	*testing.T
	mu                sync.Mutex
	probes, refreshes int
	down, deaf        bool
	stored            func() int // revisions
}

func (p *pipelines) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.down:
		w.WriteHeader(http.StatusBadGateway)
	case r.URL.Path == "/api/refresh":
		if p.refreshes++; p.stored() == 0 {
			p.Error("told of what was not committed")
		}
		if p.deaf {
			w.Header().Set("Content-Type", "text/html")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"ok": true}`)
	default:
		p.probes++
	}
}

// TestDPP: with the runner dpp an upload is refused while the service is away, and
// nothing is stored. What the service is told then has tests of its own.
func TestDPP(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		p := &pipelines{T: t}
		server := httptest.NewServer(p)
		t.Cleanup(server.Close)
		f := &fixture{T: t, Fixture: servicetest.New(t, servicetest.Options{
			Database: url, PublicURL: publicURL, Runner: registry.DPP, DPP: testkit.Must(dpp.New(server.URL, dpp.Auto))(t),
		})}
		p.stored = func() int { return f.rows("dataset_revision") }
		token := func(limit int) string {
			return testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: limit}, time.Now()))(t)
		}
		const address = "https://example.org/t.csv"
		p.down = true
		if _, err := f.Upload(t.Context(), token(1), spec("a", address), ""); !errs.Is(err, errs.Unavailable) || !strings.Contains(errs.Detail(err), "pipelines service") {
			t.Errorf("while it is away: %v", err)
		}
		// What is wrong with an upload is said before.
		if _, err := f.Upload(t.Context(), token(0), spec("a", address), ""); !errs.Is(err, errs.Forbidden) {
			t.Errorf("over the limit: %v", err)
		}
		if _, err := f.Upload(t.Context(), token(1), spec("a b", address), ""); !errs.Is(err, errs.Invalid) {
			t.Errorf("wrong: %v", err)
		}
		if n := f.rows("dataset") + f.rows("dataset_revision") + f.rows("owner") + f.rows("pipelines"); n != 0 || p.refreshes != 0 {
			t.Errorf("%d rows, %d probes, %d refreshes", n, p.probes, p.refreshes)
		}
		p.down = false
		// That it is away holds for a moment, for all who ask.
		for range 1000 {
			if err := f.DPP.Probe(t.Context()); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		for _, name := range []string{"Data", "é", "A"} {
			if _, err := f.Upload(t.Context(), token(1), spec(name, address), ""); !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), "/meta/dataset: ") {
				t.Errorf("%s: %v", name, err)
			}
		}
		for pointer, change := range map[string][2]string{
			"/path: ":                 {`"path":"t.csv"`, `"path":["t.csv","https://example.org/u.csv"]`},
			"/data: ":                 {`"path":"t.csv"`, `"data":[]`},
			"/processing/0/dpp/0/run": {`{`, `{"processing":[{"input":"t","output":"t","dpp":[{"run":"sort"}]}],`},
		} {
			body := strings.Replace(string(spec("b", address)), change[0], change[1], 1)
			if _, err := f.Upload(t.Context(), token(1), []byte(body), ""); !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), pointer) {
				t.Errorf("%s: %v", pointer, err)
			}
		}
		for i := range 2 {
			p.deaf = i == 1
			r := testkit.Must(f.Upload(t.Context(), token(1), spec("a", address), ""))(t)
			if r.Runner != registry.DPP || r.Number != int64(i+1) || p.probes == 0 {
				t.Errorf("%+v, %d probes", r, p.probes)
			}
		}
		// The plan is kept for the service, and no worker takes the flow.
		if err := f.DB.Read(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
			var id, details string
			if err := tx.QueryRow(ctx, `SELECT pipeline_id, pipeline_details FROM pipelines WHERE flow_id = $1 ORDER BY position LIMIT 1`, "me/a/1").Scan(&id, &details); err != nil {
				return err
			}
			var d struct{ Pipeline []struct{ Run string } }
			if err := json.Unmarshal([]byte(details), &d); err != nil || len(d.Pipeline) == 0 || strings.Contains(details, "/source/update") {
				t.Errorf("%s: %s, %v", id, details, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		f.run()
		if n := f.rows("river_job"); n != 0 {
			t.Errorf("%d tickets", n)
		}
		if a, err := f.Update(t.Context(), registry.Event{Pipeline: "me/a/1", Kind: registry.KindStart}); err != nil || a.FlowState != registry.Running {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := f.Retry(t.Context(), token(1), "me/a", "1"); !errs.Is(err, errs.Conflict) {
			t.Errorf("retry: %v", err)
		}
	})
}

// TestExternal: with the runner external nobody is told, and updates drive the flow.
func TestExternal(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		f := &fixture{T: t, Fixture: servicetest.New(t, servicetest.Options{Database: url, PublicURL: publicURL, Runner: registry.External})}
		f.token = testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 1}, time.Now()))(t)
		r := f.upload("a", "https://example.org/t.csv")
		f.run()
		if n := f.rows("river_job"); n != 0 || f.status(r).State != registry.Queued {
			t.Errorf("%d tickets, %s", n, f.status(r).State)
		}
		for _, p := range r.Pipelines {
			if _, err := f.Update(t.Context(), registry.Event{Pipeline: p.ID, Kind: registry.KindFinish, Success: true}); err != nil {
				t.Error(err)
			}
		}
		if st := f.status(r); st.State != registry.Succeeded {
			t.Errorf("%s", st.State)
		}
	})
}

func (f *fixture) rows(table string) (n int) {
	f.Helper()
	return f.number(`SELECT COUNT(*) FROM ` + table)
}

// number asks the database for one.
func (f *fixture) number(query string, args ...any) (n int) {
	f.Helper()
	if err := f.DB.Read(f.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		return tx.QueryRow(ctx, query, args...).Scan(&n)
	}); err != nil {
		f.Fatal(err)
	}
	return n
}
