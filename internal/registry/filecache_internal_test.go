package registry

import (
	"fmt"
	"testing"
	"time"
)

var kept = fileName{artifact: "a", path: "data/x/a.csv", sha256: "x"}

// What the cache says is never older than the last time that the change log was read.
func TestFileCache(t *testing.T) {
	t.Parallel()
	now := time.Now()
	public := NamedFile{Dataset: "i", SHA256: "x", OwnerID: "me", Findability: "published"}
	for _, c := range []struct {
		name string
		do   func(c *fileCache, changes int64)
		at   time.Duration
		ok   bool
	}{
		{"kept", func(c *fileCache, changes int64) { c.put("me/a", kept, public, changes) }, 0, true},
		{"the log was not read since", func(c *fileCache, changes int64) { c.put("me/a", kept, public, changes) }, cacheFor, false},
		{"found before a change", func(c *fileCache, changes int64) { c.forget("me/a"); c.put("me/a", kept, public, changes) }, 0, false},
		{"found before a gap", func(c *fileCache, changes int64) { c.clear(); c.caughtUp(now); c.put("me/a", kept, public, changes) }, 0, false},
		{"forgotten", func(c *fileCache, changes int64) { c.put("me/a", kept, public, changes); c.forget("me/a") }, 0, false},
		{"of another dataset", func(c *fileCache, changes int64) { c.put("me/a", kept, public, changes); c.forget("me/b") }, 0, true},
		{"not everybody may read it", func(c *fileCache, changes int64) {
			f := public
			f.Findability = "private"
			c.put("me/a", kept, f, changes)
		}, 0, false},
		{"never read", func(c *fileCache, changes int64) { c.put("me/a", kept, public, changes); c.read = time.Time{} }, 0, false},
	} {
		cache := &fileCache{}
		cache.caughtUp(now)
		_, _, changes, _ := cache.get("me/a", kept, now)
		c.do(cache, changes)
		if f, ok, _, _ := cache.get("me/a", kept, now.Add(c.at)); ok != c.ok || ok && f != public {
			t.Errorf("%s: %+v, %t; want %t", c.name, f, ok, c.ok)
		}
	}
}

// The log is asked for once while the cache is used, and not at all where it is alone.
func TestFileCacheAsks(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, alone := range []bool{false, true} {
		cache := &fileCache{alone: alone}
		asked := 0
		for i := range 20 {
			if i == 10 {
				cache.caughtUp(now)
			}
			if _, _, _, ask := cache.get("me/a", kept, now.Add(time.Duration(max(0, i-10))*cacheRenew/5)); ask {
				asked++
			}
		}
		if want := map[bool]int{false: 2}[alone]; asked != want {
			t.Errorf("alone %t: asked %d times, want %d", alone, asked, want)
		}
	}
}

// However many files are asked for, a bounded number is kept.
func TestFileCacheIsBounded(t *testing.T) {
	t.Parallel()
	cache := &fileCache{alone: true}
	for i := range 3 * maxCachedFiles {
		cache.put(fmt.Sprint("me/", i%7), fileName{path: fmt.Sprint(i)}, NamedFile{Findability: "published"}, 0)
		if cache.count > maxCachedFiles {
			t.Fatalf("%d files are kept", cache.count)
		}
	}
	for i := range 7 {
		cache.forget(fmt.Sprint("me/", i))
	}
	if cache.count != 0 || len(cache.datasets) != 0 {
		t.Errorf("%d files and %d datasets are kept after all was forgotten", cache.count, len(cache.datasets))
	}
}
