package processor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/flowspec"
)

// Steps are the processors that a Flow-Spec may name in steps of its own.
func Steps() []string { return nil }

// CheckSteps gives what the embedded engine cannot run of a spec's own steps.
func CheckSteps(spec *flowspec.Spec) []flowspec.Problem { return OnlySteps(spec, Steps()) }

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
