package standard

import (
	"fmt"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/pattern"
	"github.com/datahq/specstore/internal/processor"
	"github.com/datahq/specstore/internal/tableschema"
)

// CheckSteps gives what the embedded engine cannot run of a spec's own steps: unknown
// processors, and parameters that are wrong.
func CheckSteps(spec *flowspec.Spec) []flowspec.Problem {
	problems := OnlySteps(spec, processor.RowProcessors())
	patterns := pattern.NewBudget(tableschema.MaxPatternBytes)
	for i, p := range spec.Processing {
		for j, step := range p.Steps {
			if !slices.Contains(processor.RowProcessors(), step.Run) {
				continue
			}
			if _, err := NewWithin(step.Run, step.Parameters, patterns); err != nil {
				problems = append(problems, flowspec.Problem{Pointer: datapackage.Pointer("processing", i, "dpp", j, "parameters"), Message: errs.Detail(err)})
			}
		}
	}
	return problems
}

// OnlySteps refuses a spec's own steps but those that run some processors.
func OnlySteps(spec *flowspec.Spec, allowed []string) []flowspec.Problem {
	var problems []flowspec.Problem
	for i, p := range spec.Processing {
		for j, step := range p.Steps {
			if slices.Contains(allowed, step.Run) {
				continue
			}
			message := fmt.Sprintf("there is no processor %q", step.Run)
			if len(allowed) > 0 {
				message += "; there are " + strings.Join(allowed, ", ")
			}
			problems = append(problems, flowspec.Problem{Pointer: datapackage.Pointer("processing", i, "dpp", j, "run"), Message: message})
		}
	}
	return problems
}
