package registry

import (
	"context"
	"sync"
	"time"
)

// fileCache keeps what [Store.File] found of files that everybody may read, since a file is
// read in many ranges. What a dataset's changes make untrue is forgotten: at the end of a
// transaction of this process, and of others by the change log. It is used only while the
// log is known to have been read within a second, or no other process writes.
//
// Files that not everybody may read are not kept: how long an answer takes would show that
// they are there.
type fileCache struct {
	alone bool // no other process writes

	mu       sync.Mutex
	datasets map[string]map[fileName]NamedFile
	count    int
	changes  int64     // how often something was forgotten
	read     time.Time // the log was read up to then; zero for never
	asked    bool      // for the log to be read again
}

type fileName struct{ artifact, path, sha256 string }

const (
	maxCachedFiles = 10_000
	cacheFor       = time.Second  // after the log was read
	cacheRenew     = cacheFor / 2 // after which it is asked for again, by who uses it
)

// get finds a file. changes is for [fileCache.put]; ask says that the log is to be read
// again.
func (c *fileCache) get(datasetID string, name fileName, now time.Time) (f NamedFile, ok bool, changes int64, ask bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.read)
	if !c.alone && age > cacheRenew {
		ask, c.asked = !c.asked, true
	}
	if c.alone || age < cacheFor {
		f, ok = c.datasets[datasetID][name]
	}
	return f, ok, c.changes, ask
}

// put keeps a file that was looked for after get, unless something was forgotten since: it
// may have been found as it was before.
func (c *fileCache) put(datasetID string, name fileName, f NamedFile, changes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != changes || f.Findability == "private" {
		return
	}
	if c.count >= maxCachedFiles || c.datasets == nil {
		c.datasets, c.count = map[string]map[fileName]NamedFile{}, 0
	}
	if c.datasets[datasetID] == nil {
		c.datasets[datasetID] = map[fileName]NamedFile{}
	}
	if _, ok := c.datasets[datasetID][name]; !ok {
		c.count++
	}
	c.datasets[datasetID][name] = f
}

// forget drops what is kept of a dataset.
func (c *fileCache) forget(datasetID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.count -= len(c.datasets[datasetID])
	delete(c.datasets, datasetID)
}

// caughtUp records that the log was read up to a time.
func (c *fileCache) caughtUp(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.asked = at, false
}

// clear drops everything.
func (c *fileCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.datasets, c.count, c.read, c.asked = nil, 0, time.Time{}, false
}

// followFiles reads the change log for the cache of files until ctx ends.
func (s *Store) followFiles(ctx context.Context) {
	defer s.files.clear()
	for ctx.Err() == nil {
		after, err := s.LastChange(ctx)
		if err == nil {
			// What is kept from now on is as it was then, or later.
			s.files.clear()
			err = s.Follow(ctx, Follower{
				After:    after,
				Each:     func(_ context.Context, c Change) error { s.files.forget(c.DatasetID); return nil },
				CaughtUp: s.files.caughtUp,
			})
		}
		if err != nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(followAgain):
			}
		}
	}
}
