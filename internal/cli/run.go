package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/runner"
	"github.com/spf13/cobra"
)

func runCommand(env *Env) *cobra.Command {
	var out string
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:   "run PATH [ID] --out DIR",
		Short: "Run the flow of a dataset, or a pipeline-spec, here, without a server",
		Long: `Run the flow of a dataset in this process: no server, no database.

PATH is a folder with a datapackage.json, or a Flow-Spec (.yaml or .json). Only files in
that folder, or in the folder of the Flow-Spec, are read. DIR becomes one self-contained package: datapackage.json with relative paths, data/,
archive/ and README.md. What DIR held before is replaced only when it was written
by an earlier run, and only when this one succeeds.

PATH may also be a pipeline-spec.yaml of datapackage-pipelines. Its pipelines run in
the order of their dependencies, relative to the folder of the file, and their
steps write where they say, so there is no --out; with ID only that pipeline runs,
and what it depends on. All is checked first; no program is started, so steps that
are code are refused.

A run fails that reaches a limit: SPECSTORE_RUN_TIMEOUT (6h), SPECSTORE_RUN_MEMORY
(1GiB), SPECSTORE_RUN_DISK (eight times the sources, at least 1GiB); a source does
that is longer than SPECSTORE_MAX_SOURCE_BYTES (64GiB).

Exit codes: 0 the flow succeeded, 1 it failed, 2 wrong usage or spec.`,
		Example: "  specstore run examples/elements --out /tmp/elements\n  specstore run pipeline-spec.yaml prices",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return oneArg(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := readPipelineSpec(env.path(args[0]))
			if err != nil {
				return exit(exitUsage, err)
			}
			id := strings.Join(args[1:], "")
			switch {
			case raw != nil && out != "":
				return exit(exitUsage, fmt.Errorf("a pipeline-spec writes where its steps say; leave --out away"))
			case raw != nil:
				return runPipelines(cmd.Context(), env, raw, env.path(args[0]), id, asJSON, quiet)
			case id != "":
				return exit(exitUsage, fmt.Errorf("%s is no pipeline-spec, so it has no pipeline %q to run alone", args[0], id))
			}
			if out == "" {
				return exit(exitUsage, fmt.Errorf("run needs --out DIR"))
			}
			return runFlow(cmd.Context(), env, env.path(args[0]), env.path(out), asJSON, quiet)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`folder` that the package is written to")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print errors only")
	return cmd
}

// runResult is what `run --json` prints.
type runResult struct {
	FlowID    string                 `json:"flow_id"`
	State     string                 `json:"state"`
	Pipelines map[string]runPipeline `json:"pipelines"`
}

type runPipeline struct {
	State  string        `json:"state"`
	Stats  *engine.Stats `json:"stats"`
	Errors []string      `json:"errors"`
}

// stateOf names how something ended.
func stateOf(success bool) string {
	if success {
		return "SUCCEEDED"
	}
	return "FAILED"
}

// softMemory is what the garbage collector of a run aims to stay under, in bytes: what
// a table takes that is wide or has large cells is mostly waste that is not collected
// yet. GOMEMLIMIT says otherwise.
const softMemory = 48 << 20

func runFlow(ctx context.Context, env *Env, path, out string, asJSON, quiet bool) error {
	if env.LimitMemory != nil && env.Getenv("GOMEMLIMIT") == "" {
		env.LimitMemory(softMemory)
	}
	raw, err := localSpec(path)
	if err != nil {
		return exit(exitUsage, err)
	}
	pipelines, err := planLocal(raw, env.Now())
	if err != nil {
		return exit(exitUsage, err)
	}
	fetcher, err := newFetch(env)
	if err != nil {
		return exit(exitUsage, err)
	}
	limits, err := runLimits(env)
	if err != nil {
		return exit(exitUsage, err)
	}
	dir, err := openFolder(filepath.Clean(out))
	if err != nil {
		return exit(exitUsage, err)
	}
	defer func() { _ = dir.cancel() }() // what is finished stays
	temp, err := dir.temp()
	if err != nil {
		return err
	}
	result := runResult{FlowID: pipelines[len(pipelines)-1].ID, State: stateOf(false), Pipelines: map[string]runPipeline{}}
	var mu sync.Mutex // a run that reached a limit may go on for a moment
	var outcome *engine.Outcome
	err = limits.Here(ctx, temp, &localSources{base: folderOf(path), inside: true, fetch: fetcher}, func(ctx context.Context, sources engine.Sources) (err error) {
		outcome, err = engine.Execute(ctx, engine.Flow{
			Pipelines: pipelines, Sources: sources, Sink: dir, Temp: temp, MaxSource: limits.Source,
			Report: func(_ context.Context, news []engine.Event) error {
				mu.Lock()
				defer mu.Unlock()
				for _, e := range news {
					if e.Kind == engine.Finish {
						result.add(e.Pipeline, e.Success, e.Errors, e.Result)
					}
					if !quiet && !asJSON {
						fmt.Fprintln(env.Stderr, newsLine(e))
					}
				}
				return nil
			},
		})
		return err
	})
	if errors.Is(err, runner.ErrLimit) {
		mu.Lock()
		defer mu.Unlock()
		return result.ended(env, pipelines, errs.Detail(err), asJSON)
	}
	if err != nil {
		return err
	}
	if err := dir.commit(outcome.Success); err != nil {
		return err
	}
	return result.print(env, outcome, out, asJSON, quiet)
}

// print writes how a run ended.
func (r *runResult) print(env *Env, outcome *engine.Outcome, out string, asJSON, quiet bool) error {
	r.State = stateOf(outcome.Success)
	for _, p := range outcome.Pipelines {
		r.add(p.ID, p.Success, p.Errors, p.Result)
	}
	if asJSON {
		if err := writeJSON(env.Stdout, r); err != nil {
			return err
		}
	} else {
		for _, p := range outcome.Pipelines {
			for _, note := range p.Notes {
				if !quiet {
					fmt.Fprintf(env.Stderr, "note: %s\n", note)
				}
			}
			if !p.Success && !strings.HasPrefix(p.Errors[0], "Dependency unsuccessful") {
				fmt.Fprintf(env.Stderr, "%s:\n  %s\n", p.ID, strings.Join(p.Errors, "\n  "))
			}
		}
		if outcome.Success && !quiet {
			fmt.Fprintf(env.text, "SUCCEEDED %s: %s\n", r.FlowID, filepath.Join(out, "datapackage.json"))
		}
	}
	if !outcome.Success {
		return exit(exitData, fmt.Errorf("FAILED %s", r.FlowID))
	}
	return nil
}

// add notes how a pipeline ended.
func (r *runResult) add(id string, success bool, errors []string, result *engine.Result) {
	p := runPipeline{State: stateOf(success), Errors: append([]string{}, errors...)}
	if result != nil {
		p.Stats = &result.Stats
	}
	r.Pipelines[id] = p
}

// ended prints the outcome of a run that was ended: what had not come to its end has
// failed for the reason.
func (r *runResult) ended(env *Env, pipelines []plan.Pipeline, reason string, asJSON bool) error {
	for _, p := range pipelines {
		if _, ok := r.Pipelines[p.ID]; !ok {
			r.add(p.ID, false, []string{reason}, nil)
		}
	}
	if asJSON {
		if err := writeJSON(env.Stdout, r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(env.Stderr, "%s:\n  %s\n", r.FlowID, reason)
	}
	return exit(exitData, fmt.Errorf("FAILED %s", r.FlowID))
}

// newsLine is what a person reads of an event.
func newsLine(e engine.Event) string {
	switch {
	case e.Kind == engine.Start:
		return "INPROGRESS " + e.Pipeline
	case e.Success:
		return "SUCCEEDED  " + e.Pipeline
	}
	return "FAILED     " + e.Pipeline
}

// planLocal checks a spec and plans it for the embedded engine.
func planLocal(raw map[string]any, now time.Time) ([]plan.Pipeline, error) {
	spec, problems := flowspec.Check(raw)
	if spec != nil {
		problems = standard.CheckSteps(spec)
	}
	if len(problems) > 0 {
		return nil, errs.New(errs.Invalid, "cli.planLocal", "the spec is not valid:\n  %s", strings.Join(flowspec.ProblemLines(problems), "\n  "))
	}
	at := now.UTC().Format("2006-01-02T15:04:05.000000Z")
	return plan.Plan(plan.Input{
		Spec: spec, Revision: "1", UpdateTime: at, CreateTime: at, AllowedTypes: plan.EmbeddedTypes(), BareNames: true,
		Settings: plan.Settings{Local: true},
	})
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(&plainText{w: w, form: jsonText})
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
