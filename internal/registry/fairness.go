package registry

import (
	"context"
	"time"

	"github.com/datahq/specstore/internal/sqldb"
)

// fairShare is the name of the row of "setting" under whose lock shares are compared.
const fairShare = "fair-share"

// share is what an owner has of the flows of the embedded runner.
type share struct {
	owner   string
	held    int64 // flows that run
	waiting int64 // flows that have waited for some time
}

// crowded returns the owner whose flows keep another owner's from running: it has more
// than half of all that run, and more than one, while an owner waits who has fewer than
// half. It returns "" where there is none.
func crowded(shares []share) string {
	total := int64(0)
	for _, s := range shares {
		total += s.held
	}
	most := share{}
	for _, s := range shares {
		if s.held > most.held {
			most = s
		}
	}
	if most.held <= max(1, total/2) {
		return ""
	}
	for _, s := range shares {
		if s.owner != most.owner && s.waiting > 0 && s.held < total/2 {
			return most.owner
		}
	}
	return ""
}

// MakeRoom releases a flow where one owner has more than a fair share: more than half of
// the flows that run on all processes together, while another owner's flow has waited since
// a time or longer. It is the owner's flow that was begun last. The run that loses it stops
// at its next beat; that counts as no interruption. MakeRoom returns the ID of the flow, ""
// where nobody waits for another.
func (s *Store) MakeRoom(ctx context.Context, since time.Time, enqueue Enqueue) (flowID string, err error) {
	var waits bool
	if err := s.db.Select(ctx, func(row sqldb.Row) error {
		var n int
		waits = true
		return row.Scan(&n)
	}, `SELECT 1 FROM dataset_revision WHERE status IN ('pending', 'running') AND holder IS NULL AND runner = $1 AND queued_at <= $2 LIMIT 1`,
		string(Embedded), since.UnixMicro()); err != nil || !waits {
		return "", err
	}
	var done news
	err = s.db.Tx(ctx, func(ctx context.Context, tx sqldb.Tx) error {
		flowID, done = "", news{}
		// Of several processes that look one acts, and the others see what it did.
		tx.Queue(ctx, nil, `INSERT INTO setting (name, value) VALUES ($1, '') ON CONFLICT (name) DO UPDATE SET value = setting.value`, fairShare)
		shares, err := readShares(ctx, tx, since)
		if err != nil {
			return err
		}
		owner := crowded(shares)
		if owner == "" {
			return nil
		}
		if err := tx.QueryRow(ctx, `
			SELECT r.revision_id FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id
			WHERE r.status IN ('pending', 'running') AND r.holder IS NOT NULL AND r.runner = $1 AND d.owner = $2
			ORDER BY COALESCE(r.started_at, r.queued_at) DESC, r.revision_id DESC LIMIT 1`, string(Embedded), owner).Scan(&flowID); err != nil {
			return err
		}
		f, err := lock(ctx, tx, flowID, s.now().UnixMicro())
		if err != nil {
			return err
		}
		if f.state.Ended() || f.holder == "" {
			flowID = "" // there is room
			return nil
		}
		if err := giveBack(ctx, tx, f, enqueue); err != nil {
			return err
		}
		done, err = s.save(ctx, tx, f)
		return err
	})
	s.spread(done)
	if err != nil {
		return "", err
	}
	return flowID, nil
}

// readShares reads what each owner has of the open flows.
func readShares(ctx context.Context, tx sqldb.Tx, since time.Time) ([]share, error) {
	rows, err := tx.Query(ctx, `
		SELECT d.owner, COUNT(r.holder), SUM(CASE WHEN r.holder IS NULL AND r.queued_at <= $2 THEN 1 ELSE 0 END)
		FROM dataset_revision r JOIN dataset d ON d.identifier = r.dataset_id
		WHERE r.status IN ('pending', 'running') AND r.runner = $1 GROUP BY d.owner ORDER BY d.owner`, string(Embedded), since.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var shares []share
	for rows.Next() {
		var s share
		if err := rows.Scan(&s.owner, &s.held, &s.waiting); err != nil {
			return nil, err
		}
		shares = append(shares, s)
	}
	return shares, rows.Err()
}
