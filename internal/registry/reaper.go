package registry

import (
	"context"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
)

const (
	// LookEvery is how often a [Reaper] looks.
	LookEvery = 2 * time.Second
	// silentFor is after how long without a beat a run is taken for dead. A run that
	// could not tell that it lives stops itself before.
	silentFor = 8 * time.Second
	// A look that comes much later than the one before was made by a process that
	// stood still; nothing is known of what it did not see.
	longestGap = 3 * time.Second
	// How long the flow that waits longest may wait before another ticket is added.
	mostPatience = 10 * time.Minute
)

// Reaper takes flows back from runs that have fallen silent, of this process or of
// another one. Every process has one; a goroutine at a time uses it.
//
// It trusts no wall clock, neither its own nor another machine's: a run counts its
// beats, and is dead when the count has not moved for 8 seconds of this process's
// monotonic time, of which only the stretches count in which it could read the
// database. Of several reapers one takes the flow: the others find its attempt
// raised.
type Reaper struct {
	store   *Store
	enqueue Enqueue

	looked time.Time // zero where the last look failed
	held   map[string]sighting
	oldest sighting // of the flow that waits longest to be claimed
	id     string   // that flow
}

// sighting is what was seen of a flow and for how long it has been so.
type sighting struct {
	attempt, beat   int64
	still, patience time.Duration
}

// NewReaper makes a reaper. enqueue adds a ticket for a flow that is taken back.
func (s *Store) NewReaper(enqueue Enqueue) *Reaper { return &Reaper{store: s, enqueue: enqueue} }

// Look looks once; it is to be called each [LookEvery]. now needs its monotonic
// reading, as [time.Now] has. It gives the flows that it took back, which go on or,
// after 5 restarts, have failed. A flow that waits to be claimed for long may have
// lost its ticket with the process that held it, and gets another.
func (r *Reaper) Look(ctx context.Context, now time.Time) (taken []string, err error) {
	held, id, oldest, err := r.see(ctx)
	if err != nil {
		r.looked = time.Time{}
		return nil, err
	}
	gap := time.Duration(0)
	if !r.looked.IsZero() {
		gap = min(now.Sub(r.looked), longestGap)
	}
	r.looked = now
	for name, seen := range held {
		if before, ok := r.held[name]; ok && before.attempt == seen.attempt && before.beat == seen.beat {
			seen.still = before.still + gap
			held[name] = seen
		}
		if seen.still < silentFor {
			continue
		}
		done := false
		if err := r.store.changeTx(ctx, name, func(ctx context.Context, tx sqldb.Tx, f *flow) error {
			if done = f.holder != "" && f.attempt == seen.attempt && f.beat == seen.beat && !f.state.Ended(); !done {
				return nil
			}
			return takeBack(ctx, tx, f, "", r.enqueue)
		}); err != nil {
			return taken, err
		}
		if done {
			taken = append(taken, name)
		}
	}
	r.held = held
	return taken, r.remind(ctx, id, oldest, gap)
}

// remind adds a ticket where the same flow has been the next one for long.
func (r *Reaper) remind(ctx context.Context, id string, oldest sighting, gap time.Duration) error {
	oldest.patience = silentFor
	if id != "" && r.id == id && r.oldest.attempt == oldest.attempt {
		oldest.still, oldest.patience = r.oldest.still+gap, r.oldest.patience
	}
	r.id, r.oldest = id, oldest
	if id == "" || oldest.still < oldest.patience || r.enqueue == nil {
		return nil
	}
	r.oldest.still, r.oldest.patience = 0, min(2*oldest.patience, mostPatience)
	return r.store.db.Tx(ctx, r.enqueue)
}

// see reads the held flows and the one that waits longest.
func (r *Reaper) see(ctx context.Context) (held map[string]sighting, id string, oldest sighting, err error) {
	held = map[string]sighting{}
	err = r.store.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		err := tx.QueryRow(ctx, `
			SELECT revision_id, attempt FROM dataset_revision
			WHERE status IN ('pending', 'running') AND runner = $1 AND holder IS NULL ORDER BY queued_at, revision_id LIMIT 1`,
			string(Embedded)).Scan(&id, &oldest.attempt)
		if err != nil && !noRows(err) {
			return err
		}
		rows, err := tx.Query(ctx, `
			SELECT revision_id, attempt, beat FROM dataset_revision
			WHERE status IN ('pending', 'running') AND runner = $1 AND holder IS NOT NULL`, string(Embedded))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var s sighting
			if err := rows.Scan(&name, &s.attempt, &s.beat); err != nil {
				return err
			}
			held[name] = s
		}
		return rows.Err()
	})
	return held, id, oldest, err
}
