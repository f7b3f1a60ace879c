package main

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
)

// checkAndPlan measures what an upload does that is no database's: its spec is read,
// checked and planned. It gives the CPU time of one in microseconds.
func checkAndPlan() (float64, error) {
	const times = 300
	body := []byte(spec("o0", "template"))
	now := time.Now().UTC().Format(time.RFC3339)
	used := func() (float64, error) {
		var r unix.Rusage
		err := unix.Getrusage(unix.RUSAGE_SELF, &r)
		return float64(r.Utime.Nano()+r.Stime.Nano()) / 1000, err
	}
	before, err := used()
	if err != nil {
		return 0, err
	}
	for range times {
		raw, err := flowspec.ParseJSON(body)
		if err != nil {
			return 0, err
		}
		checked, problems := flowspec.Check(raw)
		if len(problems) > 0 {
			return 0, errors.New("the spec is refused")
		}
		if _, err := plan.Plan(plan.Input{
			Spec: checked, Revision: "1", UpdateTime: now, CreateTime: now, Version: plan.Version,
			AllowedTypes: plan.EmbeddedTypes(), Settings: plan.Settings{Local: true},
		}); err != nil {
			return 0, err
		}
	}
	after, err := used()
	return (after - before) / times, err
}
