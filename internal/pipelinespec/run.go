package pipelinespec

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor/standard"
)

// Result is how a pipeline ended.
type Result struct {
	ID      string
	Success bool
	Rows    int64          // that reached the end of the pipeline
	Stats   map[string]any // nil after a failure
	Errors  []string       // for the owner; empty after success
	Err     error          // with its cause, for the log
}

// Dependency reports whether the pipeline was not run because another failed.
func (r Result) Dependency() bool {
	return len(r.Errors) > 0 && strings.HasPrefix(r.Errors[0], "Dependency unsuccessful")
}

// Run runs the pipelines one after the other, and tells of each when it starts and
// when it ends (result is nil at the start). A pipeline that fails takes those that
// depend on it with it, and no others. env's dependencies are filled with what
// pipelines wrote. The error is that of the context.
func (s *Spec) Run(ctx context.Context, env standard.Env, news func(id string, result *Result)) ([]Result, error) {
	urls := map[string]string{}
	ended := map[string]bool{}
	var results []Result
	for _, p := range s.Pipelines {
		if ctx.Err() != nil {
			return results, context.Cause(ctx)
		}
		result := Result{ID: p.ID}
		if i := slices.IndexFunc(p.Dependencies, func(id string) bool { return !ended[id] }); i >= 0 {
			result.Errors = []string{fmt.Sprintf("Dependency unsuccessful. Cannot run until dependency %q is successfully executed", p.Dependencies[i])}
		} else {
			news(p.ID, nil)
			own := env
			own.Dependencies = urls
			result.Stats, result.Rows, result.Err = p.run(ctx, &own)
			result.Success = result.Err == nil
			if ctx.Err() != nil {
				return results, context.Cause(ctx)
			}
		}
		if result.Err != nil {
			result.Stats = nil
			result.Errors = strings.Split(errs.Detail(result.Err), "\n")
		}
		if dpp, ok := result.Stats[".dpp"].(map[string]any); ok {
			if url, ok := dpp["out-datapackage-url"].(string); ok {
				urls[p.ID] = url
			}
		}
		ended[p.ID] = result.Success
		news(p.ID, &result)
		results = append(results, result)
	}
	return results, nil
}

// run runs one pipeline. A fault of ours ends it, and not the others.
func (p Pipeline) run(ctx context.Context, env *standard.Env) (stats map[string]any, rows int64, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errs.New(errs.Internal, "pipelinespec.Run", "a fault in a processor: %v\n%s", r, debug.Stack())
		}
	}()
	pkg, err := standard.Chain(ctx, env, standard.Empty(), p.Steps)
	if err != nil {
		return nil, 0, err
	}
	return pkg.Drain()
}
