package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/jobs"
	"github.com/datahq/specstore/internal/private"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/runner"
	"github.com/datahq/specstore/internal/service"
	"github.com/datahq/specstore/internal/sqldb"
)

// process is a service that runs: what `serve` and `worker` have in common.
type process struct {
	log     *slog.Logger
	parts   *parts
	service *service.Service
	waiting int // flows that waited at the start

	db      *sqldb.DB
	queue   *jobs.Queue  // nil where no flows are run
	runs    *runner.Pool // nil before it is started
	scratch *scratch     // nil before it is made
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// openDatabase opens the database and brings it up to date.
func (c *config) openDatabase(ctx context.Context) (*sqldb.DB, *registry.Store, error) {
	db, err := sqldb.Open(ctx, sqldb.Config{URL: c.databaseURL})
	if err != nil {
		return nil, nil, exit(exitUsage, err)
	}
	store, err := registry.Open(ctx, db, registry.Options{EngineVersion: engine.Version, LegacyZone: c.legacyZone})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, store, nil
}

// start wires a service and lets it run flows, unless there are to be no workers.
// stop must be called, whatever ends ctx.
func (c *config) start(ctx context.Context, env *Env) (_ *process, err error) {
	p := &process{log: c.logger(env), cancel: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop(ctx))
		}
	}()
	if err := os.MkdirAll(c.data, 0o700); err != nil {
		return nil, pathError(err)
	}
	if mode, exposed := private.Exposed(c.data); exposed {
		p.log.WarnContext(ctx, "other users of this machine may read the data folder: take their rights off it", "data", c.data, "mode", fmt.Sprintf("%04o", mode))
	}
	var store *registry.Store
	if p.db, store, err = c.openDatabase(ctx); err != nil {
		return nil, err
	}
	if p.scratch, err = openScratch(filepath.Join(c.data, "tmp"), filepath.Join(c.data, "pkgstore"), p.db.Single()); err != nil {
		return nil, err
	}
	if p.parts, err = c.parts(ctx, env, store); err != nil {
		return nil, err
	}
	p.parts.places.Mark = p.scratch.mark
	p.runs = runner.NewPool(runner.Config{Places: p.parts.places, Limits: c.limits, Keep: c.workers, Temp: p.scratch.dir, Log: p.log})
	p.parts.Log, p.parts.Temp, p.parts.Redact, p.parts.Runs = p.log, p.scratch.dir, c.redact, p.runs
	queue, err := jobs.New(ctx, p.db, jobs.Config{
		Workers: max(c.workers, 1), Log: p.log, Run: func(ctx context.Context) error { return p.service.RunNext(ctx) },
	})
	if err != nil {
		return nil, err
	}
	p.parts.Jobs = queue
	p.service = service.New(p.parts.Parts)
	if err := p.service.MovePackages(ctx); err != nil {
		return nil, err
	}
	if p.db.Single() {
		if p.waiting, err = p.service.Recover(ctx); err != nil {
			return nil, err
		}
	}
	if c.workers > 0 {
		p.runs.Warm()
		if err := queue.Start(ctx); err != nil {
			return nil, err
		}
		p.queue = queue
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	p.running.Go(func() { store.Listen(background) })
	p.running.Go(func() { p.service.Maintain(background) })
	p.running.Go(func() { p.service.Dispatch(background) })
	return p, nil
}

// stop ends what start began: runs are given back, and then nothing is left.
func (p *process) stop(ctx context.Context) (err error) {
	if p.queue != nil {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
		defer cancel()
		err = p.queue.Stop(release)
	}
	p.cancel()
	p.running.Wait()
	if p.runs != nil {
		p.runs.Close()
	}
	if p.scratch != nil {
		err = errors.Join(err, p.scratch.close())
	}
	if p.db != nil {
		err = errors.Join(err, p.db.Close())
	}
	return err
}

// ready fails where the database does not answer or a store cannot be written.
func (p *process) ready(ctx context.Context) error {
	one := func(row sqldb.Row) error { var n int; return row.Scan(&n) }
	if err := p.db.Select(ctx, one, `SELECT 1`); err != nil {
		return err
	}
	for _, store := range p.parts.stores {
		w, err := store.Create(ctx, "ready")
		if err != nil {
			return err
		}
		_, err = w.Write([]byte("ready"))
		if err = errors.Join(err, w.Cancel()); err != nil {
			return err
		}
	}
	return nil
}
