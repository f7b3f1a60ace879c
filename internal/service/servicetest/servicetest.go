// Package servicetest makes a service over real parts for tests: a new SQLite
// database, local stores, a queue and an issuer of its own, all gone after the test.
// Nothing in it stands in for a part.
package servicetest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/jobs"
	"github.com/datahq/specstore/internal/objstore"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/runner"
	"github.com/datahq/specstore/internal/service"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// issuer signs the tokens of all tests; its key is slow to make.
var issuer = sync.OnceValues(func() (*auth.Issuer, error) {
	key, err := auth.GenerateKey()
	if err != nil {
		return nil, err
	}
	return auth.NewIssuer(key)
})

// Child runs flows where the test binary was started for that, and returns its exit code
// then. A package whose tests run flows asks it first in its TestMain.
func Child() (code int, ok bool) {
	if len(os.Args) != 2 || os.Args[1] != runner.Command {
		return 0, false
	}
	return runner.Child(os.Stdin, os.Stdout, os.Stderr), true
}

// Options are what services differ in.
type Options struct {
	Database  string        // URL; empty is a new SQLite file
	Data      string        // folder of the stores; empty is a new one
	EraseWait time.Duration // see [service.Parts]
	PublicURL string        // the base of the addresses that are handed out
	Keys      auth.Keys     // of another server's tokens; nil is the issuer's
	Profiles  service.Profiles
	Redact    bool
	Runner    registry.Runner
	DPP       service.Pipelines // for the runner of that name
	Silence   time.Duration     // of it
	Fetch     fetch.Config
	Limits    runner.Limits // of each run
	// Trace is told of the statements, see [sqldb.Config].
	Trace func(statements ...string)
}

// Fixture is a service and what it is made of beside its own parts.
type Fixture struct {
	*service.Service
	DB     *sqldb.DB
	Queue  *jobs.Queue // not started
	Where  string      // the working folder of the processes of runs
	Issuer *auth.Issuer

	objects objstore.Store
}

// Objects is the store below the packages.
func Objects(f *Fixture) objstore.Store { return f.objects }

// New makes a service. Its queue has two workers once it is started.
func New(t testing.TB, o Options) *Fixture {
	t.Helper()
	ctx := t.Context()
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	if o.Database == "" {
		o.Database = testkit.DB(t, sqldb.SQLite)
	}
	db := testkit.Must(sqldb.Open(ctx, sqldb.Config{URL: o.Database, Trace: o.Trace}))(t)
	t.Cleanup(func() { _ = db.Close() })
	where := t.TempDir()
	runs := runner.NewPool(runner.Config{Places: runner.Places{
		RawStore: runner.FolderURL(filepath.Join(o.Data, "rawstore")), Packages: runner.FolderURL(filepath.Join(o.Data, "pkgstore")),
		RawBases: []string{o.PublicURL + "/rawstore/o"}, Fetch: o.Fetch,
	}, Limits: o.Limits, Keep: 2, Temp: where})
	t.Cleanup(runs.Close)
	objects := func(name string) *objstore.Local {
		l := testkit.Must(objstore.OpenLocal(filepath.Join(o.Data, name)))(t)
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	f := &Fixture{DB: db, Issuer: testkit.Must(issuer())(t), objects: objects("pkgstore"), Where: where}
	if o.Keys == nil {
		o.Keys = f.Issuer
	}
	log := slog.New(slog.DiscardHandler)
	f.Queue = testkit.Must(jobs.New(ctx, db, jobs.Config{
		Workers: 2, Log: log, Run: func(ctx context.Context) error { return f.RunNext(ctx) },
	}))(t)
	secret := []byte("secret of the tests")
	store := testkit.Must(registry.Open(ctx, db, registry.Options{}))(t)
	f.Service = service.New(service.Parts{
		Registry: store, Verifier: &auth.Verifier{Keys: o.Keys}, Profiles: o.Profiles,
		Raw:      rawstore.New(objects("rawstore"), secret, time.Now).WithLedger(store),
		Packages: pkgstore.New(f.objects, o.PublicURL+"/pkgstore"),
		Runs:     runs, Jobs: f.Queue, RawBases: []string{o.PublicURL + "/rawstore/o"},
		Runner: o.Runner, DPP: o.DPP, Silence: o.Silence, PublicURL: o.PublicURL, Plans: plan.Settings{Local: true},
		Redact: o.Redact, EraseWait: o.EraseWait, Temp: t.TempDir(), Holder: "test", Secret: secret, Now: time.Now, Log: log,
	})
	return f
}
