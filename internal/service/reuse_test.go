package service_test

import (
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/registry"
)

// TestReuse: a push of what was pushed before publishes the same files, also after one
// that failed, and says so; one of something else does not.
func TestReuse(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		reused := func(r *registry.Revision) (n int) {
			for _, p := range f.status(r).Pipelines {
				if p.Reused != "" {
					n++
				}
				if (p.Reused != "") != strings.Contains(strings.Join(p.Log, "\n"), "its files are published again") {
					t.Errorf("%s: reused from %q, with the log %q", p.ID, p.Reused, p.Log)
				}
			}
			return n
		}
		first := f.upload("d", f.file(small))
		f.run()
		f.checkPublished(first)
		again := f.upload("d", f.file(small))
		f.run()
		f.checkPublished(again)
		if got := reused(again); got != 6 { // all but the package
			t.Errorf("%d pipelines were reused", got)
		}
		broken := f.upload("d", f.file("id,name\nx,one\n"))
		f.run()
		f.await(broken, registry.Failed)
		if got := reused(broken); got != 0 {
			t.Errorf("%d pipelines of other data were reused", got)
		}
		mended := f.upload("d", f.file(small))
		f.run()
		f.checkPublished(mended)
		if got := reused(mended); got != 6 {
			t.Errorf("%d pipelines were reused after a failure", got)
		}
		other := f.upload("e", f.file(small))
		f.run()
		f.checkPublished(other)
		if got := reused(other); got != 0 {
			t.Errorf("%d pipelines of another dataset were reused", got)
		}
		f.checkClean()
	})
}
