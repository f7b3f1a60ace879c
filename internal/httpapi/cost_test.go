package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// usual is a spec of one table of six fields.
func usual(owner, dataset string) string {
	return fmt.Sprintf(`{"meta":{"version":1,"ownerid":%[1]q,"owner":"the-%[1]s","dataset":%[2]q,"findability":"published"},
"inputs":[{"kind":"datapackage","url":"http://example.com/datapackage.json","parameters":{
 "resource-mapping":{"data/elements.csv":"http://example.com/elements.csv"},
 "descriptor":{"name":%[2]q,"title":"The first 36 chemical elements","description":"Hydrogen to krypton: symbol, standard atomic weight, phase and year of discovery.",
  "licenses":[{"name":"CC0-1.0","title":"CC0 1.0 Universal","path":"https://creativecommons.org/publicdomain/zero/1.0/"}],
  "resources":[{"name":"elements","path":"data/elements.csv","format":"csv","mediatype":"text/csv","encoding":"utf-8","schema":{"fields":[
   {"name":"number","type":"integer","title":"Atomic number","constraints":{"required":true,"unique":true,"minimum":1}},
   {"name":"symbol","type":"string","constraints":{"required":true,"pattern":"[A-Z][a-z]?"}},
   {"name":"name","type":"string","constraints":{"required":true}},{"name":"atomic_mass","type":"number"},
   {"name":"phase","type":"string","constraints":{"enum":["gas","liquid","solid"]}},{"name":"discovered","type":"year"}],"primaryKey":"number"}}]}}}],
"outputs":[],"schedule":"every 1d"}`, owner, dataset)
}

// costs are servers without a network, and the requests whose cost is watched.
type costs struct {
	tb       testing.TB
	embedded http.Handler // of uploads that are run
	external http.Handler // of those that are told of
	token    string
	flows    []string // with the one that has ended first
	open     int      // the flow and
	event    int      // the event that come next
	tag      string

	statements, trips atomic.Int64
}

func newCosts(tb testing.TB, kind sqldb.Dialect) *costs {
	tb.Helper()
	c := &costs{tb: tb}
	url := testkit.DB(tb, kind)
	server := func(url string, runner registry.Runner) http.Handler {
		f := servicetest.New(tb, servicetest.Options{
			Database: url, PublicURL: "http://127.0.0.1:8000", Runner: runner,
			Trace: func(statements ...string) {
				// River tells its workers of a job every few milliseconds at most: of
				// which uploads, is a matter of time.
				if len(statements) == 1 && strings.Contains(statements[0], "PGNotifyMany") {
					return
				}
				c.trips.Add(1)
				c.statements.Add(int64(len(statements)))
			},
		})
		c.token = testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "me", UserName: "the-me", Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(tb)
		return httpapi.New(httpapi.Config{
			Service: f.Service, Events: f.Registry, Packages: f.Packages, Raw: f.Raw, Verifier: f.Verifier, Issuer: f.Issuer,
			PublicURL: "http://127.0.0.1:8000", AnonymousUpdates: true, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
	}
	c.embedded = server(url, registry.Embedded)
	c.external = server(testkit.DB(tb, kind), registry.External)
	c.upload(c.external, true)
	for _, p := range pipelineNames {
		for _, kind := range []string{"start", "finish"} {
			c.update(c.flows[0]+p, kind)
		}
	}
	c.tag = c.ask(c.external, "GET", "/source/"+c.flows[0], "").Header().Get("ETag")
	if c.tag == "" {
		tb.Fatal("the flow has not ended")
	}
	c.upload(c.external, true)
	c.open = 1
	return c
}

// pipelineNames are those of the usual spec, the package's last.
var pipelineNames = []string{"/validation_report", "/elements_csv", "/elements_json", "/usual_zip", "/elements_csv_preview", "/elements", ""}

func (c *costs) ask(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body)).WithContext(context.WithoutCancel(c.tb.Context()))
	r.Host, r.RemoteAddr = "127.0.0.1:8000", "127.0.0.1:1"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Auth-Token", c.token)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK && w.Code != http.StatusNotModified {
		c.tb.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w
}

func (c *costs) upload(h http.Handler, keep bool) {
	var out struct {
		FlowID string `json:"flow_id"`
	}
	if err := json.Unmarshal(c.ask(h, "POST", "/source/upload", usual("me", "usual")).Body.Bytes(), &out); err != nil {
		c.tb.Fatal(err)
	}
	if keep {
		c.flows = append(c.flows, out.FlowID)
	}
}

const usualStats = `{"bytes":1484,"count_of_rows":36,"dataset_name":"elements","hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",` +
	`".dpp":{"out-datapackage-url":"http://example.com/datapackage.json"}}`

func (c *costs) update(pipeline, kind string) {
	c.ask(c.external, "POST", "/source/update", fmt.Sprintf(`{"pipeline":"./%s","event":%q,"success":true,"stats":%s,"log":["one","two"]}`, pipeline, kind, usualStats))
}

// next is the next event of a flow that stays open. Flows are made where they are
// used up, which costs make ready.
func (c *costs) next() {
	c.update(c.flows[c.open]+pipelineNames[c.event/2], []string{"start", "finish"}[c.event%2])
	if c.event++; c.event == 2*(len(pipelineNames)-1) {
		c.event = 0
		c.open++
	}
}

func (c *costs) ready(events int) {
	for range events/(2*(len(pipelineNames)-1)) + 2 {
		c.upload(c.external, true)
	}
}

// requests are those whose cost is watched, by name.
func (c *costs) requests() []struct {
	name string
	do   func()
} {
	return []struct {
		name string
		do   func()
	}{
		{"status", func() { c.ask(c.external, "GET", "/source/"+c.flows[0], "") }},
		{"status-latest", func() { c.ask(c.external, "GET", "/source/me/usual/latest", "") }},
		{"status-open", func() { c.ask(c.external, "GET", "/source/"+c.flows[len(c.flows)-1], "") }},
		{"not-modified", func() { c.ask(c.external, "GET", "/source/"+c.flows[0], "", "If-None-Match", c.tag) }},
		{"update", c.next},
		{"upload", func() { c.upload(c.embedded, false) }},
	}
}

// cost is what a request takes that does not depend on the machine.
type cost struct {
	Allocations int64 `json:"allocations"`
	Bytes       int64 `json:"bytes"`
	Statements  int64 `json:"statements"`
	RoundTrips  int64 `json:"round_trips"`
}

// Tolerances over the baseline, which versions of Go and of libraries move: a cost that
// rises by more is a mistake, or belongs into the baseline.
const (
	costTolerance = 1.25
	costSlack     = 10
	costRuns      = 100
)

// What a request costs in allocations, SQL statements and round trips is no more than
// bench/baseline.json says; -update writes it anew, for a reviewer to read. Time is not
// looked at here: see bench.
func TestCosts(t *testing.T) {
	file := filepath.Join(testkit.Root(t), "bench", "baseline.json")
	want := map[string]cost{}
	if text, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
	} else if !testkit.Updating() {
		t.Fatal(err)
	}
	got := maps.Clone(want)
	for _, kind := range []sqldb.Dialect{sqldb.SQLite, sqldb.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			c := newCosts(t, kind)
			c.ready(costRuns + 20)
			for _, request := range c.requests() {
				name := string(kind) + "/" + request.name
				for range 20 { // statements are prepared on each connection
					request.do()
				}
				trips, statements := c.trips.Load(), c.statements.Load()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range costRuns {
					request.do()
				}
				runtime.ReadMemStats(&after)
				is := cost{
					int64(after.Mallocs-before.Mallocs) / costRuns, int64(after.TotalAlloc-before.TotalAlloc) / costRuns,
					(c.statements.Load() - statements) / costRuns, (c.trips.Load() - trips) / costRuns,
				}
				got[name] = is
				if testkit.Updating() {
					continue
				}
				most, ok := want[name]
				over := func(is, most int64) bool { return float64(is) > float64(most)*costTolerance+costSlack }
				switch {
				case !ok:
					t.Errorf("%s is not in %s: add it with -update", name, file)
				case is.Statements > most.Statements, is.RoundTrips > most.RoundTrips,
					!underRace && (over(is.Allocations, most.Allocations) || over(is.Bytes, most.Bytes+1024)):
					t.Errorf("%s costs %+v, the baseline is %+v", name, is, most)
				}
			}
		})
	}
	if testkit.Updating() {
		text, err := json.MarshalIndent(got, "", "  ")
		if err == nil {
			err = os.WriteFile(file, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkRequests(b *testing.B) {
	for _, kind := range []sqldb.Dialect{sqldb.SQLite, sqldb.Postgres} {
		c := newCosts(b, kind)
		for _, request := range c.requests() {
			b.Run(string(kind)+"/"+request.name, func(b *testing.B) {
				b.ReportAllocs()
				if request.name == "update" {
					c.ready(b.N)
					b.ResetTimer()
				}
				for range b.N {
					request.do()
				}
			})
		}
	}
}
