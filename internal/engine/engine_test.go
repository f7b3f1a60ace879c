package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
)

const url = "https://example.org/d/"

// files are sources in memory that count how often each is opened, and how many bytes
// are read of it.
type files struct {
	text   map[string]string
	hashed bool // their hashes are known
	mu     sync.Mutex
	read   map[string]int
	bytes  map[string]int
}

// countedFile is a source that counts what is read of it.
type countedFile struct {
	io.Reader
	read func(n int)
}

func (c countedFile) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read(n)
	return n, err
}

func (countedFile) Close() error { return nil }

func (f *files) Open(_ context.Context, u string) (io.ReadCloser, engine.SourceInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read == nil {
		f.read = map[string]int{}
	}
	f.read[u]++
	text, ok := f.text[strings.TrimPrefix(u, url)]
	if !ok {
		return nil, engine.SourceInfo{}, errs.New(errs.Invalid, "test", "the source answered 404 Not Found")
	}
	info := engine.SourceInfo{Size: int64(len(text)), Name: u, Scheme: "https"}
	if f.hashed {
		sum := sha256.Sum256([]byte(text))
		info.SHA256 = hex.EncodeToString(sum[:])
	}
	return countedFile{strings.NewReader(text), func(n int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.bytes == nil {
			f.bytes = map[string]int{}
		}
		f.bytes[u] += n
	}}, info, nil
}

// folder is a sink that keeps files in a folder.
type folder struct {
	dir  string
	fail string // part of a path that cannot be kept
	mu   sync.Mutex
	puts map[string]string
}

func (f *folder) Put(_ context.Context, file engine.File) (key, ref string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != "" && strings.Contains(file.Path, f.fail) {
		return "", "", errs.New(errs.Unavailable, "test", "the disk is full")
	}
	b, err := os.ReadFile(file.Local)
	if err != nil {
		return "", "", err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != file.SHA256 || int64(len(b)) != file.Bytes {
		return "", "", errors.New("the file is not what is said of it")
	}
	key = strings.ReplaceAll(file.Path, "/", "_")
	if f.puts == nil {
		f.puts = map[string]string{}
	}
	f.puts[file.Path] = string(b)
	return key, file.Path, os.Rename(file.Local, filepath.Join(f.dir, key))
}

func (f *folder) PutDescriptor(_ context.Context, artifact string, body []byte) (string, error) {
	return "descriptor of " + artifact, nil
}

func (f *folder) Has(_ context.Context, key string, size int64) bool {
	info, err := os.Stat(filepath.Join(f.dir, key))
	return err == nil && info.Size() == size
}

func (f *folder) Open(_ context.Context, key string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(f.dir, key))
}

const twoTables = `
meta: {ownerid: me, dataset: d}
inputs:
- kind: datapackage
  url: https://example.org/d/datapackage.json
  parameters:
    descriptor:
      resources:
      - {name: a, path: a.csv, schema: {fields: [{name: n, type: integer}]}}
      - {name: b, path: b.csv, schema: {fields: [{name: n, type: integer}]}}
      - {name: doc, path: doc.pdf}
`

func pipelines(t testing.TB, spec string) []plan.Pipeline {
	t.Helper()
	raw, err := flowspec.ParseYAML([]byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	s, problems := flowspec.Check(raw)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	list, err := plan.Plan(plan.Input{Spec: s, Revision: "1", AllowedTypes: plan.EmbeddedTypes(), Settings: plan.Settings{Local: true}})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// observed runs a flow and checks what must hold of its news: a pipeline starts
// after its dependencies have succeeded, and ends once.
func observed(t *testing.T, ctx context.Context, f engine.Flow) (*engine.Outcome, map[string]bool, error) {
	t.Helper()
	deps := map[string][]string{}
	for _, p := range f.Pipelines {
		for _, d := range p.Details.Dependencies {
			deps[p.ID] = append(deps[p.ID], strings.TrimPrefix(d.Pipeline, "./"))
		}
	}
	started, ended := map[string]bool{}, map[string]bool{}
	for id := range f.Done {
		ended[id] = true
	}
	look := func(e engine.Event) {
		if _, twice := ended[e.Pipeline]; twice {
			t.Errorf("news of %s after its end: %+v", e.Pipeline, e)
		}
		if e.Kind == engine.Start || e.Reused() != "" {
			started[e.Pipeline] = true
			for _, d := range deps[e.Pipeline] {
				if !ended[d] {
					t.Errorf("%s starts before %s has succeeded", e.Pipeline, d)
				}
			}
		}
		if e.Kind == engine.Finish {
			ended[e.Pipeline] = e.Success
			if e.Cascaded == started[e.Pipeline] {
				t.Errorf("%s: cascaded %v, started %v", e.Pipeline, e.Cascaded, started[e.Pipeline])
			}
		}
	}
	report := f.Report
	f.Report = func(ctx context.Context, news []engine.Event) error {
		for _, e := range news {
			look(e)
		}
		if report != nil {
			return report(ctx, news)
		}
		return nil
	}
	f.Temp = t.TempDir()
	out, err := engine.Execute(ctx, f)
	if left, _ := os.ReadDir(f.Temp); len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
	return out, ended, err
}

func good() *files {
	return &files{text: map[string]string{"a.csv": "n\n1\n2\n", "b.csv": "n\n3\n", "doc.pdf": "%PDF"}}
}

func TestFlow(t *testing.T) {
	t.Parallel()
	src, sink := good(), &folder{dir: t.TempDir()}
	out, _, err := observed(t, t.Context(), engine.Flow{Pipelines: pipelines(t, twoTables), Sources: src, Sink: sink})
	if err != nil || !out.Success {
		t.Fatalf("%+v, %v", out, err)
	}
	for u, n := range src.read {
		if n != 1 {
			t.Errorf("%s was read %d times", u, n)
		}
	}
	again := &folder{dir: t.TempDir()}
	if _, _, err := observed(t, t.Context(), engine.Flow{Pipelines: pipelines(t, twoTables), Sources: good(), Sink: again}); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(sink.puts, again.puts) {
		t.Error("two runs over the same input give different bytes")
	}
}

// TestPartsThatFail: a failure stops what hangs on it and nothing else.
func TestPartsThatFail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(f *files, s *folder)
		failed []string
	}{
		{"a bad cell", func(f *files, _ *folder) { f.text["a.csv"] = "n\nx\n" }, []string{"", "a_csv", "a_csv_preview", "a_json", "d_zip"}},
		{"an empty file", func(f *files, _ *folder) { f.text["a.csv"] = "" }, []string{"", "a_csv", "a_csv_preview", "a_json", "d_zip"}},
		{"a missing source", func(f *files, _ *folder) { delete(f.text, "b.csv") }, []string{"", "b", "b_csv", "b_csv_preview", "b_json", "d_zip"}},
		{"a missing document", func(f *files, _ *folder) { delete(f.text, "doc.pdf") }, []string{"", "d_zip", "doc"}},
		{"a store that is full", func(_ *files, s *folder) { s.fail = "a_json" }, []string{"", "a_json", "d_zip"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src, sink := good(), &folder{dir: t.TempDir()}
			c.change(src, sink)
			out, ended, err := observed(t, t.Context(), engine.Flow{Pipelines: pipelines(t, twoTables), Sources: src, Sink: sink})
			if err != nil || out.Success {
				t.Fatalf("%+v, %v", out, err)
			}
			var failed []string
			for id, ok := range ended {
				if !ok {
					failed = append(failed, strings.TrimPrefix(strings.TrimPrefix(id, "me/d/1"), "/"))
				}
			}
			slices.Sort(failed)
			if !slices.Equal(failed, c.failed) {
				t.Errorf("failed: %q, want %q", failed, c.failed)
			}
			for _, p := range out.Pipelines {
				if p.Success == (len(p.Errors) > 0) {
					t.Errorf("%s: success %v with %q", p.ID, p.Success, p.Errors)
				}
			}
		})
	}
}

// TestGoingOn: what an earlier attempt published is not made again.
func TestGoingOn(t *testing.T) {
	t.Parallel()
	list := pipelines(t, twoTables)
	sink := &folder{dir: t.TempDir()}
	results := map[string]*engine.Result{}
	stop := errors.New("killed")
	_, _, err := observed(t, t.Context(), engine.Flow{
		Pipelines: list, Sources: good(), Sink: sink,
		Report: func(_ context.Context, news []engine.Event) error {
			for _, e := range news {
				if e.Pipeline == "me/d/1/d_zip" {
					return stop
				}
				if e.Kind == engine.Finish {
					results[e.Pipeline] = e.Result
				}
			}
			return nil
		},
	})
	if !errors.Is(err, stop) || len(results) == 0 {
		t.Fatalf("%v with %d results", err, len(results))
	}
	sink.puts = nil
	src := good()
	out, _, err := observed(t, t.Context(), engine.Flow{Pipelines: list, Sources: src, Sink: sink, Done: results})
	if err != nil || !out.Success {
		t.Fatalf("%+v, %v", out, err)
	}
	for _, r := range results {
		for _, o := range r.Outputs {
			if _, twice := sink.puts[o.Path]; twice {
				t.Errorf("%s was made again", o.Path)
			}
		}
	}
}

// TestStop: a flow whose context ends stops, and leaves its pipelines open.
func TestStop(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stopped")
	src := good()
	src.text["a.csv"] = "n\n" + strings.Repeat("1\n", 500_000)
	_, ended, err := observed(t, ctx, engine.Flow{
		Pipelines: pipelines(t, twoTables), Sources: src, Sink: &folder{dir: t.TempDir()},
		Report: func(_ context.Context, news []engine.Event) error {
			if slices.ContainsFunc(news, func(e engine.Event) bool { return e.Pipeline == "me/d/1/a_csv" }) {
				cancel(cause)
			}
			return nil
		},
	})
	if !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	// Others may have ended before the long one began.
	for _, id := range []string{"me/d/1/a_csv", "me/d/1/a_json", "me/d/1/validation_report", "me/d/1/d_zip", "me/d/1"} {
		if ok, is := ended[id]; is {
			t.Errorf("%s ended, success %v", id, ok)
		}
	}
}

// TestUnknownStep: a step that nobody has fails its pipelines.
func TestUnknownStep(t *testing.T) {
	t.Parallel()
	spec := twoTables + "processing:\n- {input: a, output: c, dpp: [{run: make_coffee}]}\n"
	out, ended, err := observed(t, t.Context(), engine.Flow{Pipelines: pipelines(t, spec), Sources: good(), Sink: &folder{dir: t.TempDir()}})
	if err != nil || out.Success || ended["me/d/1/c_csv"] || !ended["me/d/1/b_csv"] {
		t.Fatalf("%v, %v", ended, err)
	}
	for _, p := range out.Pipelines {
		if p.ID == "me/d/1/c_csv" && !strings.Contains(fmt.Sprint(p.Errors), "make_coffee") {
			t.Errorf("%v", p.Errors)
		}
	}
}

func BenchmarkFlow(b *testing.B) {
	var body bytes.Buffer
	body.WriteString("n\n")
	for i := range 200_000 {
		fmt.Fprintln(&body, i)
	}
	raw, err := flowspec.ParseYAML([]byte(twoTables))
	if err != nil {
		b.Fatal(err)
	}
	s, problems := flowspec.Check(raw)
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	list, err := plan.Plan(plan.Input{Spec: s, Revision: "1", Settings: plan.Settings{Local: true}})
	if err != nil {
		b.Fatal(err)
	}
	src := good()
	src.text["a.csv"] = body.String()
	b.SetBytes(int64(body.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := engine.Execute(b.Context(), engine.Flow{Pipelines: list, Sources: src, Sink: &folder{dir: b.TempDir()}, Temp: b.TempDir()}); err != nil {
			b.Fatal(err)
		}
	}
}
