package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestSameStatements: the floor sends what the service sends, or figures beside it mean
// nothing.
func TestSameStatements(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		var mu sync.Mutex
		sent := map[string]bool{}
		plain := func(text string) string { return strings.Join(strings.Fields(text), " ") }
		f := servicetest.New(t, servicetest.Options{
			Database: url, PublicURL: "http://127.0.0.1:8000", Runner: registry.External,
			Trace: func(statements ...string) {
				mu.Lock()
				defer mu.Unlock()
				for _, s := range statements {
					sent[plain(s)] = true
				}
			},
		})
		token := testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(t)
		spec := []byte(`{"meta":{"ownerid":"me","owner":"me","dataset":"d","findability":"published"},"inputs":[{"kind":"datapackage","parameters":{
			"descriptor":{"resources":[{"name":"t","path":"http://example.com/t.csv","schema":{"fields":[{"name":"id"}]}}]}}}]}`)
		r := testkit.Must(f.Upload(t.Context(), token, spec, ""))(t).Revision
		for _, e := range []registry.Event{{Kind: registry.KindStart}, {Kind: registry.KindFinish, Success: true, Log: []string{"done"}}} {
			e.Pipeline = r.ID + "/validation_report"
			testkit.Must(f.Update(t.Context(), e))(t)
		}
		testkit.Must(f.Status(t.Context(), token, r.DatasetID, fmt.Sprint(r.Number)))(t)
		for name, text := range map[string]string{
			"status": sqlStatus, "lock": sqlLock, "rows": sqlRows, "pipeline": sqlPipeline, "logged": sqlLogged, "revision": sqlRevision,
			"owner": sqlOwner, "count": sqlCount, "dataset": sqlDataset, "new": sqlNew, "queued": sqlQueued[4], "events": sqlEvents[1],
		} {
			if !sent[plain(text)] {
				t.Errorf("%s: the service does not send\n%s", name, plain(text))
			}
		}
	})
}
