package engine_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/engine"
)

// stopping reads as a head and then a unit without end. It cancels when it was read for a
// while, and fails when it is read on.
type stopping struct {
	head, unit string
	at, n      int
	cancel     func()
}

var errReadOn = errors.New("the source was read on after the end of the context")

func (s *stopping) Read(p []byte) (int, error) {
	const cancelAt, most = 3 << 20, 60 << 20
	n := copy(p, s.head)
	s.head = s.head[n:]
	for n < len(p) {
		k := copy(p[n:], s.unit[s.at:])
		s.at = (s.at + k) % len(s.unit)
		n += k
	}
	if s.n += n; s.n > most {
		return 0, errReadOn
	}
	if s.n > cancelAt {
		s.cancel()
	}
	return n, nil
}

func (*stopping) Close() error { return nil }

// endlessSources opens every source as one without end.
type endlessSources struct {
	head, unit string
	cancel     func()
}

func (e endlessSources) Open(context.Context, string) (io.ReadCloser, engine.SourceInfo, error) {
	return &stopping{head: e.head, unit: e.unit, cancel: e.cancel}, engine.SourceInfo{Size: -1, Name: "endless", Scheme: "https"}, nil
}

// TestCancelledFlow: a flow ends with its context in the midst of each of its phases, and
// nothing of the source is published.
func TestCancelledFlow(t *testing.T) {
	t.Parallel()
	const steps = `
processing:
- {input: a, output: a, dpp: [STEP]}
`
	for name, c := range map[string]struct{ head, unit, schema, more string }{
		"rows":         {"n,k\n", "1,x\n", `{fields: [{name: n, type: integer}, {name: k}]}`, ""},
		"bad rows":     {"n,k\n", "x,x,x\n", `{fields: [{name: n, type: integer}, {name: k}]}`, ""},
		"keys":         {"n,k\n", "1,x\n", `{fields: [{name: n, type: integer}, {name: k}], primaryKey: [n, k]}`, ""},
		"foreign keys": {"n,k\n", "1,x\n", `{fields: [{name: n, type: integer}, {name: k}], foreignKeys: [{fields: [n], reference: {resource: "", fields: [k]}}]}`, ""},
		"a long cell":  {"n,k\n1,", "x", `{fields: [{name: n, type: integer}, {name: k}]}`, ""},
		"a file":       {"", "x", "", ""},
		"other forms":  {"n,k\n", "1,x\n", `{fields: [{name: n, type: integer}, {name: k}]}`, "outputs: [{kind: parquet}, {kind: sqlite}, {kind: xlsx}]\n"},
		"sort":         {"n,k\n", "1,x\n", `{fields: [{name: n, type: integer}, {name: k}]}`, strings.ReplaceAll(steps, "STEP", `{run: sort, parameters: {sort-by: "{k}"}}`)},
		"filter":       {"n,k\n", "1,x\n", `{fields: [{name: n, type: integer}, {name: k}]}`, strings.ReplaceAll(steps, "STEP", `{run: filter, parameters: {in: [{k: none}]}}`)},
		"replace":      {"n,k\n", "1,x\n", `{fields: [{name: n, type: integer}, {name: k}]}`, strings.ReplaceAll(steps, "STEP", `{run: find_replace, parameters: {fields: [{name: k, patterns: [{find: x, replace: xx}]}]}}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := ""
			if c.schema != "" {
				schema = ", schema: " + c.schema
			}
			list := pipelines(t, `
meta: {ownerid: me, dataset: d}
inputs:
- kind: datapackage
  url: https://example.org/d/datapackage.json
  parameters:
    descriptor:
      resources:
      - {name: a, path: a.csv`+schema+`}
`+c.more)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			sink := &folder{dir: t.TempDir()}
			_, _, err := observed(t, ctx, engine.Flow{Pipelines: list, Sources: endlessSources{c.head, c.unit, cancel}, Sink: sink})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that the context has ended", err)
			}
			for path := range sink.puts {
				if c.schema == "" && strings.Contains(path, "report") { // of no table, it waits for nothing
					continue
				}
				t.Errorf("%s was published", path)
			}
		})
	}
}

// TestCancelledValidation: so does validation.
func TestCancelledValidation(t *testing.T) {
	t.Parallel()
	for name, unit := range map[string]string{"rows": "1,x\n", "bad rows": "x,x,x\n", "blank rows": "\n"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := engine.Validate(ctx, t.TempDir(), []engine.TableInput{{
			Resource: map[string]any{"name": "a", "schema": fields("n", "integer", "k", "string")}, Format: "csv",
			Open: func(context.Context, int) (io.ReadCloser, error) {
				return &stopping{head: "n,k\n", unit: unit, cancel: cancel}, nil
			},
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want that the context has ended", name, err)
		}
	}
}
