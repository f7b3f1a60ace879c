package engine_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/engine"
)

// late is a source that gives its bytes when it is let go.
type late struct {
	*files
	url  string
	free <-chan struct{}
}

func (l late) Open(ctx context.Context, u string) (io.ReadCloser, engine.SourceInfo, error) {
	if u == l.url {
		select {
		case <-l.free:
		case <-ctx.Done():
			return nil, engine.SourceInfo{}, context.Cause(ctx)
		}
	}
	return l.files.Open(ctx, u)
}

// TestSideBySide: a source that is slow keeps nobody waiting who does not need it.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	letGo := make(chan struct{})
	waiting := map[string]bool{"b_csv": true, "b_json": true, "b_csv_preview": true, "b": true, "doc": true}
	out, _, err := observed(t, ctx, engine.Flow{
		Pipelines: pipelines(t, twoTables), Sink: &folder{dir: t.TempDir()},
		Sources: late{good(), url + "a.csv", letGo},
		Report: func(_ context.Context, news []engine.Event) error {
			for _, e := range news {
				name := strings.TrimPrefix(e.Pipeline, "me/d/1/")
				if e.Kind == engine.Finish && waiting[name] {
					if delete(waiting, name); len(waiting) == 0 {
						close(letGo)
					}
				}
			}
			return nil
		},
	})
	if err != nil || !out.Success {
		t.Errorf("%+v, %v", out, err)
	}
}
