package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/local"
	"github.com/datahq/specstore/internal/pipelinespec"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/processor/wire"
	"github.com/datahq/specstore/internal/runner"
	"github.com/spf13/cobra"
)

func stepCommand(env *Env) *cobra.Command {
	var parameters string
	cmd := &cobra.Command{
		Use:   "step RUN --parameters JSON",
		Short: "Run one processor between standard input and output",
		Long: `Run one processor of datapackage-pipelines as a filter: a package comes in on
standard input and goes out on standard output, both in the protocol that
processors of datapackage-pipelines speak. With nothing on standard input it is
the first step of a pipeline. Files are read and written relative to the working
folder. What assembler.extract_readme and assembler.validate_resource make for the
next step lies in the folder for temporary files, and goes with a step a day later.

The processors: ` + strings.Join(standard.Names(), ", ") + `.

Exit codes: 0 done, 1 the data or a source is wrong, 2 wrong usage, parameters or input.`,
		Example: `  specstore step load --parameters '{"from": "a.csv", "name": "a"}' </dev/null |
    specstore step sort --parameters '{"sort-by": "{id}"}' |
    specstore step dump_to_path --parameters @dump.json`,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runStep(cmd.Context(), env, args[0], parameters)
		},
	}
	cmd.Flags().StringVar(&parameters, "parameters", "{}", "the processor's parameters as `JSON`, or @FILE")
	return cmd
}

func runStep(ctx context.Context, env *Env, run, parameters string) error {
	text := []byte(parameters)
	if name, ok := strings.CutPrefix(parameters, "@"); ok {
		var err error
		if text, err = readSmall(env.path(name)); err != nil {
			return exit(exitUsage, err)
		}
	}
	params, err := flowspec.ParseJSON(text)
	if err != nil {
		return exit(exitUsage, errs.Wrap(err, errs.Invalid, "cli.step", "--parameters: %s", errs.Detail(err)))
	}
	step, err := standard.New(run, params)
	if err != nil {
		return exit(exitUsage, err)
	}
	world, done, err := stepEnv(env, env.Dir)
	if err != nil {
		return err
	}
	defer done()
	world.Keep = os.TempDir() // the next step is another process
	sweep(world.Keep, time.Now())
	p, dependencies, err := wire.Read(env.Stdin)
	if err == nil {
		err = standard.Check(p.Descriptor)
	}
	if err != nil {
		return exit(exitUsage, err)
	}
	world.Dependencies = dependencies
	if p, err = step.Process(ctx, world, p); err == nil {
		err = wire.Write(ctx, env.Stdout, p, dependencies)
	}
	if err != nil && ctx.Err() == nil {
		return exit(exitData, err)
	}
	return err
}

// keptFor is how long a file stays that a step made for the next one, which may be a
// process of datapackage-pipelines and removes nothing.
const keptFor = 24 * time.Hour

// sweep removes what earlier steps left for those behind them, and nobody needs now.
func sweep(dir string, now time.Time) {
	old, err := filepath.Glob(filepath.Join(dir, standard.KeptFiles+"*"))
	if err != nil {
		return
	}
	for _, name := range old {
		if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > keptFor {
			os.Remove(name)
		}
	}
}

// stepEnv is the world of processors that run in a folder of this machine. done
// removes what they left.
func stepEnv(env *Env, dir string) (world *standard.Env, done func(), err error) {
	fetcher, err := newFetch(env)
	if err != nil {
		return nil, nil, exit(exitUsage, err)
	}
	temp, err := os.MkdirTemp("", "specstore-step-")
	if err != nil {
		return nil, nil, err
	}
	files := &stepFiles{dir: dir, fetch: fetcher}
	return &standard.Env{
		Sources: files, Places: files, Getenv: env.Getenv, Temp: temp, Report: reporter(files, temp),
	}, func() { os.RemoveAll(temp) }, nil
}

// stepFiles reads and writes files of this machine, relative to a folder, and reads
// http(s) URLs. It is for what the user at the terminal runs.
type stepFiles struct {
	dir   string
	fetch *fetch.Client
}

// Absolute gives a path that does not depend on the folder.
func (f *stepFiles) Absolute(url string) string {
	if isURL(url) || filepath.IsAbs(url) {
		return url
	}
	return filepath.ToSlash(filepath.Join(f.dir, filepath.FromSlash(url)))
}

// Open opens a file or a URL.
func (f *stepFiles) Open(ctx context.Context, url string) (io.ReadCloser, error) {
	if isURL(url) {
		body, _, err := f.fetch.Open(ctx, url)
		return body, err
	}
	file, err := local.Open(f.Absolute(url))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap(err, errs.NotFound, "cli.Open", "%s: no such file", url)
	}
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Put copies a finished file to its place, which it takes at once.
func (f *stepFiles) Put(_ context.Context, path, local string) (err error) {
	to := filepath.FromSlash(f.Absolute(path))
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return pathError(err)
	}
	in, err := os.Open(local)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".specstore-")
	if err != nil {
		return pathError(err)
	}
	defer func() {
		if err != nil {
			os.Remove(out.Name())
		}
	}()
	_, err = io.Copy(out, in)
	if chmod := out.Chmod(0o644); err == nil {
		err = chmod
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return pathError(os.Rename(out.Name(), to))
}

// readPipelineSpec reads a file that may be a pipeline-spec; nil where it is none.
func readPipelineSpec(path string) (map[string]any, error) {
	ext := strings.ToLower(filepath.Ext(path))
	if isDir(path) || ext != ".yaml" && ext != ".yml" && ext != ".json" || filepath.Base(path) == "datapackage.json" {
		return nil, nil
	}
	raw, err := readSpec(path)
	if err != nil {
		return nil, err
	}
	if !pipelinespec.Is(raw) && filepath.Base(path) != "pipeline-spec.yaml" {
		return nil, nil
	}
	return raw, nil
}

// pipelinesResult is what `run --json` prints of a pipeline-spec.
type pipelinesResult struct {
	State     string                    `json:"state"`
	Pipelines map[string]pipelineResult `json:"pipelines"`
}

type pipelineResult struct {
	State  string         `json:"state"`
	Stats  map[string]any `json:"stats"`
	Errors []string       `json:"errors"`
}

// runPipelines runs a pipeline-spec, or one pipeline of it with those that it
// depends on.
func runPipelines(ctx context.Context, env *Env, raw map[string]any, path, id string, asJSON, quiet bool) error {
	spec, err := pipelinespec.Parse(raw)
	if err != nil {
		return exit(exitUsage, err)
	}
	if id != "" {
		if spec, err = spec.Only(id); err != nil {
			return exit(exitUsage, err)
		}
	}
	world, done, err := stepEnv(env, filepath.Dir(path))
	if err != nil {
		return err
	}
	defer done()
	limits, err := runLimits(env)
	if err != nil {
		return exit(exitUsage, err)
	}
	temp := world.Temp
	if limits.Disk == 0 {
		temp = "" // how much the steps read is not known, so there is no default
	}
	var results []pipelinespec.Result
	tell := func(id string, r *pipelinespec.Result) {
		if quiet || asJSON {
			return
		}
		switch {
		case r == nil:
			fmt.Fprintln(env.Stderr, "INPROGRESS "+id)
		case r.Success:
			fmt.Fprintf(env.Stderr, "SUCCEEDED  %s: %d rows\n", id, r.Rows)
		default:
			fmt.Fprintln(env.Stderr, "FAILED     "+id)
		}
	}
	err = limits.Here(ctx, temp, nil, func(ctx context.Context, _ engine.Sources) (err error) {
		results, err = spec.Run(ctx, *world, tell)
		return err
	})
	if errors.Is(err, runner.ErrLimit) {
		return exit(exitData, fmt.Errorf("FAILED %s: %s", filepath.Base(path), errs.Detail(err)))
	}
	if err != nil {
		return err
	}
	success := true
	out := pipelinesResult{Pipelines: map[string]pipelineResult{}}
	for _, r := range results {
		success = success && r.Success
		out.Pipelines[r.ID] = pipelineResult{stateOf(r.Success), r.Stats, append([]string{}, r.Errors...)}
		if !r.Success && !asJSON && !r.Dependency() {
			text := strings.Join(r.Errors, "\n  ")
			if errs.KindOf(r.Err) == errs.Internal {
				text = message(r.Err)
			}
			fmt.Fprintf(env.Stderr, "%s:\n  %s\n", r.ID, text)
		}
	}
	out.State = stateOf(success)
	if asJSON {
		if err := writeJSON(env.Stdout, out); err != nil {
			return err
		}
	}
	if !success {
		return exit(exitData, fmt.Errorf("FAILED %s", filepath.Base(path)))
	}
	if !asJSON && !quiet {
		fmt.Fprintf(env.text, "SUCCEEDED %s: %d pipelines\n", filepath.Base(path), len(results))
	}
	return nil
}

// reporter gives the validation reports that assembler.validate_resource asks for.
func reporter(files *stepFiles, temp string) func(context.Context, []map[string]any) ([]byte, error) {
	return func(ctx context.Context, resources []map[string]any) ([]byte, error) {
		var inputs []engine.TableInput
		for _, r := range resources {
			url, _ := r["dpp:streamedFrom"].(string)
			if r["schema"] == nil || url == "" {
				continue
			}
			url = strings.TrimPrefix(url, "file://")
			inputs = append(inputs, engine.TableInput{
				Resource: r, Format: strings.TrimPrefix(filepath.Ext(url), "."),
				Open: func(ctx context.Context, _ int) (io.ReadCloser, error) { return files.Open(ctx, url) },
			})
		}
		return engine.Report(ctx, temp, inputs)
	}
}
