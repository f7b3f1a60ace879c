package engine_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/engine"
)

// reusing runs a flow after earlier ones over the same sink.
func reusing(t *testing.T, spec string, src *files, sink *folder, earlier map[string][]engine.Earlier) (reused []string, results map[string][]engine.Earlier) {
	t.Helper()
	sink.puts = map[string]string{}
	src.read = nil
	out, _, err := observed(t, t.Context(), engine.Flow{
		Pipelines: pipelines(t, spec), Sources: src, Sink: sink, Earlier: earlier,
		Report: func(_ context.Context, news []engine.Event) error {
			for _, e := range news {
				if e.Reused() != "" {
					reused = append(reused, strings.TrimPrefix(e.Pipeline, "me/d/1/"))
				}
			}
			return nil
		},
	})
	if err != nil || !out.Success {
		t.Fatalf("%+v, %v", out, err)
	}
	results = map[string][]engine.Earlier{}
	for _, p := range out.Pipelines {
		artifact := strings.TrimPrefix(strings.TrimPrefix(p.ID, "me/d/1"), "/")
		results[artifact] = []engine.Earlier{{FlowID: "me/d/0", Result: p.Result}}
	}
	slices.Sort(reused)
	return reused, results
}

const (
	ofA   = "a a_csv a_csv_preview a_json"
	ofB   = "b b_csv b_csv_preview b_json"
	ofAll = ofA + " " + ofB + " d_zip doc validation_report"
)

// TestReuse: what an earlier flow made of the same inputs is not made again, and what
// is made gives the bytes that it would have given.
func TestReuse(t *testing.T) {
	t.Parallel()
	pointing := strings.Replace(twoTables, "{name: n, type: integer}]}}",
		"{name: n, type: integer}], foreignKeys: [{fields: n, reference: {resource: b, fields: n}}]}}", 1)
	for _, c := range []struct {
		name, spec string
		change     func(f *files, s *folder)
		then       string // the second spec, where it is another one
		reused     string
		read       string // the sources whose tables are read again
	}{
		{name: "nothing changed", spec: twoTables, reused: ofAll},
		{name: "one table changed", spec: twoTables, change: func(f *files, _ *folder) { f.text["a.csv"] = "n\n7\n" }, reused: ofB + " doc"},
		{name: "a document changed", spec: twoTables, change: func(f *files, _ *folder) { f.text["doc.pdf"] = "%PDF-2" }, reused: ofA + " " + ofB + " validation_report"},
		{
			name: "a schema changed", spec: twoTables, then: strings.Replace(twoTables, "type: integer", "type: string", 1),
			reused: ofB + " doc",
		},
		{
			name: "the title changed", spec: twoTables, then: strings.Replace(twoTables, "descriptor:", "descriptor:\n      title: new", 1),
			reused: ofA + " " + ofB + " doc validation_report",
		},
		{
			name: "views and licences changed", then: twoTables,
			spec:   strings.Replace(twoTables, "descriptor:", "descriptor:\n      views: [{name: old, specType: simple}]\n      licenses: [{name: CC0-1.0}]", 1),
			reused: ofA + " " + ofB + " doc validation_report",
		},
		{
			name: "the title of a resource changed", spec: twoTables, then: strings.Replace(twoTables, "{name: a,", "{name: a, title: new,", 1),
			reused: ofB + " doc",
		},
		{
			name: "a step changed", spec: twoTables + "processing:\n- {input: a, output: c, dpp: [{run: sort, parameters: {sort-by: '{n}'}}]}\n",
			then:   twoTables + "processing:\n- {input: a, output: c, dpp: [{run: sort, parameters: {sort-by: '{n}', reverse: true}}]}\n",
			reused: "c " + ofB + " doc validation_report",
		},
		{
			name: "a file is gone", spec: twoTables,
			change: func(_ *files, s *folder) { os.Remove(filepath.Join(s.dir, "data_a_csv.csv")) },
			reused: "a a_json " + ofB + " doc validation_report",
		},
		{
			name: "the table that another one refers to changed", spec: pointing,
			change: func(f *files, _ *folder) { f.text["b.csv"] = "n\n1\n2\n3\n" }, reused: "a doc",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src, sink := good(), &folder{dir: t.TempDir()}
			src.text["b.csv"] = "n\n1\n2\n"
			_, earlier := reusing(t, c.spec, src, sink, nil)
			if c.change != nil {
				c.change(src, sink)
			}
			if c.then == "" {
				c.then = c.spec
			}
			reused, again := reusing(t, c.then, src, sink, earlier)
			want := strings.Fields(c.reused)
			slices.Sort(want)
			if !slices.Equal(reused, want) {
				t.Errorf("reused %q, want %q", reused, want)
			}
			for artifact, e := range again {
				if r := e[0].Result; r.Reused != "" && r.Reused != "me/d/0" {
					t.Errorf("%s: reused from %q", artifact, r.Reused)
				}
			}
			// The same without an earlier flow.
			fresh := &folder{dir: t.TempDir()}
			_, made := reusing(t, c.then, src, fresh, nil)
			for artifact, e := range made {
				if artifact == "" { // it is made in every flow, and must be of this one alone
					if got, want := again[""][0].Result.Stats, e[0].Result.Stats; got.Hash != want.Hash {
						t.Errorf("the package is %+v, made anew %+v", again[""][0].Result.Descriptor, e[0].Result.Descriptor)
					}
					continue
				}
				if got, want := again[artifact][0].Result.Outputs, e[0].Result.Outputs; !slices.Equal(got, want) {
					t.Errorf("%s: %+v, made anew %+v", artifact, got, want)
				}
				if got, want := again[artifact][0].Result.Inputs, e[0].Result.Inputs; got != want || got == "" {
					t.Errorf("%s: inputs %q, made anew %q", artifact, got, want)
				}
			}
		})
	}
}

// TestReuseKnown: a source whose hash is known is not even read.
func TestReuseKnown(t *testing.T) {
	t.Parallel()
	src, sink := good(), &folder{dir: t.TempDir()}
	src.hashed = true
	_, earlier := reusing(t, twoTables, src, sink, nil)
	src.text["a.csv"] = "n\n7\n"
	reusing(t, twoTables, src, sink, earlier)
	if got := slices.Sorted(maps.Keys(src.bytes)); !slices.Equal(got, []string{url + "a.csv", url + "b.csv", url + "doc.pdf"}) {
		t.Errorf("bytes were read of %q", got)
	}
	for _, u := range []string{"b.csv", "doc.pdf"} {
		if n := src.bytes[url+u]; n != len(src.text[u]) {
			t.Errorf("%s: %d bytes were read of %d", u, n, len(src.text[u]))
		}
	}
}

// TestGoingOnReadsNothing: an attempt that lacks only what is made of other files reads no
// source again, and makes the same.
func TestGoingOnReadsNothing(t *testing.T) {
	t.Parallel()
	src, sink := good(), &folder{dir: t.TempDir()}
	_, made := reusing(t, twoTables, src, sink, nil)
	done := map[string]*engine.Result{}
	for artifact, e := range made {
		if artifact != "" && artifact != "d_zip" {
			done["me/d/1/"+artifact] = e[0].Result
		}
	}
	for _, earlier := range []map[string][]engine.Earlier{nil, {"a": made["a"]}} {
		src.read = nil
		out, _, err := observed(t, t.Context(), engine.Flow{Pipelines: pipelines(t, twoTables), Sources: src, Sink: sink, Done: done, Earlier: earlier})
		if err != nil || !out.Success {
			t.Fatalf("%+v, %v", out, err)
		}
		if len(src.read) > 0 {
			t.Errorf("sources were opened: %v", src.read)
		}
		for _, p := range out.Pipelines {
			if want := made["d_zip"][0].Result; p.ID == "me/d/1/d_zip" && (!slices.Equal(p.Result.Outputs, want.Outputs) || p.Result.Inputs != want.Inputs) {
				t.Errorf("%+v, made at first %+v", p.Result, want)
			}
		}
	}
}
