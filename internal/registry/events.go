package registry

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
)

// StoredEvent is a change of a flow as it was recorded.
type StoredEvent struct {
	Seq      int64 // counts from 1 in each flow
	At       time.Time
	Pipeline string
	Kind     Kind
	// Body is an object: state (the pipeline's) and flow_state, both in the API's
	// names, attempt, errors and, once the pipeline has ended, stats and the flow that
	// its files were reused from.
	Body json.RawMessage

	body eventBody
}

type eventBody struct {
	State   State           `json:"state"`
	Flow    State           `json:"flow_state"`
	Attempt int64           `json:"attempt"`
	Errors  []string        `json:"errors,omitempty"`
	Stats   json.RawMessage `json:"stats,omitempty"`
	Reused  string          `json:"reused,omitempty"`
}

const maxEvents = 1000

// Events gives the events of a flow after a number, in order, at most 1000.
func (s *Store) Events(ctx context.Context, flowID string, after int64) ([]StoredEvent, error) {
	var list []StoredEvent
	err := s.db.Read(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		rows, err := tx.Query(ctx, `SELECT seq, at, pipeline, kind, body FROM flow_event WHERE flow_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`,
			flowID, after, maxEvents)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e StoredEvent
			var at int64
			var kind, body string
			if err := rows.Scan(&e.Seq, &at, &e.Pipeline, &kind, &body); err != nil {
				return err
			}
			e.At, e.Kind, e.Body = fromMicros(at), Kind(kind), json.RawMessage(body)
			list = append(list, e)
		}
		return rows.Err()
	})
	return list, err
}

// Prune deletes the events of flows that ended before a time.
func (s *Store) Prune(ctx context.Context, before time.Time) error {
	return s.db.Tx(sqldb.Slow(ctx), func(ctx context.Context, tx sqldb.Tx) error {
		_, err := tx.Exec(ctx, `
			DELETE FROM flow_event WHERE flow_id IN (
				SELECT e.flow_id FROM (SELECT DISTINCT flow_id FROM flow_event) e JOIN dataset_revision r ON r.revision_id = e.flow_id
				WHERE r.status NOT IN ('pending', 'running') AND r.finished_at < $1)`, before.UnixMicro())
		return err
	})
}

// channel is where processes that share a database tell each other of changes.
const channel = "specstore_flow"

// Listen makes watchers hear of changes that other processes make, and reads the change log
// for what is kept of it, until ctx ends. On SQLite there are no others, and it returns at
// once.
func (s *Store) Listen(ctx context.Context) {
	if s.db.Single() {
		return
	}
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { s.followFiles(ctx) })
	s.db.Listen(ctx, channel, func(flowID string) {
		if flowID != "" {
			s.wake(flowID)
			return
		}
		s.mu.Lock()
		watched := slices.Collect(maps.Keys(s.watchers))
		s.mu.Unlock()
		for _, id := range watched {
			s.wake(id)
		}
	})
}

// tell lets other processes know of a change when its transaction has committed.
func (s *Store) tell(ctx context.Context, tx sqldb.Tx, flowID string) {
	s.db.Notify(ctx, tx, channel, flowID)
}

// Watch gives a channel that receives after each change of a flow, of another process
// too while [Store.Listen] runs; changes that come while nobody receives are told
// once. cancel ends it and must be called.
func (s *Store) Watch(flowID string) (changes <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers[flowID] == nil {
		s.watchers[flowID] = map[chan struct{}]struct{}{}
	}
	s.watchers[flowID][c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers[flowID], c)
		if len(s.watchers[flowID]) == 0 {
			delete(s.watchers, flowID)
		}
	}
}

func (s *Store) wake(flowID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.watchers[flowID] {
		select {
		case c <- struct{}{}:
		default: // told already
		}
	}
}
