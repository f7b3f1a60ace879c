package pipelinespec_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/pipelinespec"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/testkit"
)

// disk reads and writes below a folder.
type disk struct{ dir string }

func (d disk) Absolute(url string) string {
	if filepath.IsAbs(url) {
		return url
	}
	return filepath.Join(d.dir, url)
}

func (d disk) Open(_ context.Context, url string) (io.ReadCloser, error) {
	f, err := os.Open(d.Absolute(url))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "disk", "%s: no such file", url)
	}
	return f, err
}

func (d disk) Put(_ context.Context, path, local string) error {
	body, err := os.ReadFile(local)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(d.Absolute(path)), 0o700); err != nil {
		return err
	}
	return os.WriteFile(d.Absolute(path), body, 0o600)
}

func parse(text string) (*pipelinespec.Spec, error) {
	raw, err := flowspec.ParseYAML([]byte(text))
	if err != nil {
		return nil, err
	}
	return pipelinespec.Parse(raw)
}

// ids are those of a spec's pipelines, in their order.
func ids(s *pipelinespec.Spec) string {
	var list []string
	for _, p := range s.Pipelines {
		list = append(list, p.ID)
	}
	return strings.Join(list, " ")
}

const printer = "pipeline: [{run: printer}]"

func TestIs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"a: {" + printer + "}":                         true,
		"./a: {" + printer + "}\nb: {" + printer + "}": true,
		"{}":                         false,
		"a: {pipeline: x}":           false,
		"a: {" + printer + "}\nb: 1": false,
		"meta: {dataset: d, ownerid: me}\ninputs: [1]":       false,
		"name: p\nresources: [{name: r, path: a.csv}]":       false,
		"a: {steps: [{run: printer}]}\nb: {" + printer + "}": false,
	} {
		raw := testkit.Must(flowspec.ParseYAML([]byte(text)))(t)
		if got := pipelinespec.Is(raw); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestOrder: pipelines stand behind those that they depend on, named as dependencies or
// read by a step, with or without "./" before the name; else by name.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := testkit.Must(parse(`
a: {` + printer + `, dependencies: [{pipeline: ./d}], title: The first}
b: {` + printer + `}
./c: {pipeline: [{run: load_resource, parameters: {url: "dependency://./a", resource: x}}]}
d: {` + printer + `, dependencies: [{datapackage: elsewhere}]}
e: {pipeline: [{run: add_metadata, parameters: {list: [{deep: "dependency://c"}]}}], dependencies: [{pipeline: c}, {pipeline: b}]}
`))(t)
	if got := ids(s); got != "d a b c e" {
		t.Errorf("the order is %s", got)
	}
	last := s.Pipelines[len(s.Pipelines)-1]
	if !slices.Equal(last.Dependencies, []string{"b", "c"}) || s.Pipelines[1].Title != "The first" {
		t.Errorf("%+v", s.Pipelines)
	}
	for id, want := range map[string]string{"c": "d a c", "./c": "d a c", "b": "b", "d": "d", "e": "d a b c e"} {
		only, err := s.Only(id)
		if err != nil || ids(only) != want {
			t.Errorf("only %s: %v, %v; want %s", id, only, err, want)
		}
	}
	if _, err := s.Only("x"); !errs.Is(err, errs.NotFound) || !strings.Contains(errs.Detail(err), `no pipeline "x"; those that there are: d, a, b, c, e`) {
		t.Errorf("only x: %v", err)
	}
}

// TestRefused: all that is wrong is said at once, by the pipeline and the step.
func TestRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{}":                         "has no pipelines",
		"a: 1":                       `pipeline "a": must be an object`,
		"a: {}":                      `pipeline "a": ` + "`pipeline` must be a list of steps",
		"a: {pipeline: []}":          "`pipeline` must be a list of steps",
		"a: {pipeline: x}":           "`pipeline` must be a list of steps",
		"a: {pipeline: [x]}":         "step 1: `run` must name a processor",
		"a: {pipeline: [{run: 1}]}":  "step 1: `run` must name a processor",
		"a: {pipeline: [{flow: x}]}": "step 1: a flow is code",
		"a: {pipeline: [{run: printer}, {run: my.code}]}":                               `step 2: there is no processor "my.code"`,
		"a: {pipeline: [{run: dump_to_sql}]}":                                           "databases are not written to",
		"a: {pipeline: [{run: sort, parameters: 1}]}":                                   "step 1, sort: `parameters` must be an object",
		"a: {pipeline: [{run: sort, parameters: {sort-by: 5}}]}":                        `step 1: sort: parameter "sort-by"`,
		"a: {" + printer + ", dependencies: b}":                                         "`dependencies` must be a list",
		"a: {" + printer + ", dependencies: [b]}":                                       "dependency 1 must name a `pipeline`",
		"a: {" + printer + ", dependencies: [{pipeline: b}]}":                           `depends on "b", which is not in this file`,
		"a: {" + printer + ", dependencies: [{pipeline: a}]}":                           `pipeline "a": depends on itself: a → a`,
		"a: {" + printer + "}\n./a: {" + printer + "}":                                  "stands there twice",
		"a: {pipeline: [{run: load, parameters: {from: 'dependency://./b', name: x}}]}": `depends on "b", which is not in this file`,
		"a: {" + printer + ", dependencies: [{pipeline: c}]}\nb: {" + printer + ", dependencies: [{pipeline: a}]}\nc: {" + printer + ", dependencies: [{pipeline: b}]}": "depends on itself: a → c → b → a",
		"a: [":       "",
		"a: {x: 1\n": "",
		"- a":        "",
		"a: {pipeline: [{run: printer}], pipeline: []}": "",
	} {
		_, err := parse(text)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	_, err := parse("a: {pipeline: [{run: x}]}\nb: {pipeline: [{run: y}], dependencies: [{pipeline: z}]}")
	if detail := errs.Detail(err); strings.Count(detail, "\n") != 3 {
		t.Errorf("not all is said: %s", detail)
	}
}

// TestRun: pipelines run in order and read what others wrote; a failure takes along
// those that depend on it, and no others.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.csv"), []byte("n\n1\n2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := testkit.Must(parse(`
good: {pipeline: [{run: load, parameters: {from: a.csv, name: r}}, {run: dump_to_path, parameters: {out-path: out/good}}]}
reads: {pipeline: [{run: load_resource, parameters: {url: "dependency://./good", resource: r}}, {run: dump_to_path, parameters: {out-path: out/reads}}]}
bad: {pipeline: [{run: load, parameters: {from: gone.csv, name: r}}]}
after: {` + printer + `, dependencies: [{pipeline: ./bad}]}
last: {` + printer + `, dependencies: [{pipeline: after}, {pipeline: good}]}
nameless: {pipeline: [{run: add_metadata, parameters: {name: Not A Name}}, {run: printer}]}
`))(t)
	temp := t.TempDir()
	env := standard.Env{Sources: disk{dir}, Places: disk{dir}, Temp: temp}
	var news []string
	results, err := s.Run(t.Context(), env, func(id string, r *pipelinespec.Result) {
		if r == nil {
			news = append(news, "start "+id)
		} else {
			news = append(news, fmt.Sprintf("%s %v", id, r.Success))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "start bad, bad false, after false, start good, good true, last false, start nameless, nameless false, start reads, reads true"; strings.Join(news, ", ") != want {
		t.Errorf("%q, want %q", news, want)
	}
	for _, r := range results {
		want := map[string]string{
			"bad":      "step 1, load: gone.csv: no such file",
			"after":    `Dependency unsuccessful. Cannot run until dependency "bad" is successfully executed`,
			"last":     `Dependency unsuccessful. Cannot run until dependency "after" is successfully executed`,
			"nameless": "step 2, printer: the descriptor is none of a data package",
		}[r.ID]
		switch {
		case want == "" && (!r.Success || r.Err != nil || len(r.Errors) > 0 || r.Rows != 2 || r.Stats == nil):
			t.Errorf("%s: %+v", r.ID, r)
		case want != "" && (r.Success || r.Stats != nil || len(r.Errors) != 1 || !strings.Contains(r.Errors[0], want) || r.Dependency() != strings.HasPrefix(want, "Dep")):
			t.Errorf("%s: %+v, want %s", r.ID, r, want)
		}
	}
	if got := string(testkit.Must(os.ReadFile(filepath.Join(dir, "out", "reads", "r.csv")))(t)); got != "n\r\n1\r\n2\r\n" {
		t.Errorf("what was read of another pipeline: %q", got)
	}
	if left := testkit.Must(os.ReadDir(temp))(t); len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
}

// TestStop: an ended context ends the run, and no pipeline is said to have failed.
func TestStop(t *testing.T) {
	t.Parallel()
	s := testkit.Must(parse("a: {" + printer + "}\nb: {" + printer + "}"))(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	results, err := s.Run(ctx, standard.Env{}, func(id string, r *pipelinespec.Result) {
		if r != nil {
			cancel(stop)
		}
	})
	if !errors.Is(err, stop) || len(results) != 1 || !results[0].Success {
		t.Errorf("%+v, %v", results, err)
	}
}
