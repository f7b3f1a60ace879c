package cli_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/testkit"
)

// TestPushSchedule: a push keeps the schedule that its dataset has, unless it says another
// one or none; status shows it.
func TestPushSchedule(t *testing.T) {
	t.Parallel()
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	example := filepath.Join(testkit.Root(t), "examples", "elements")
	for _, c := range []struct {
		args []string
		want string // shown; empty for no schedule
		exit int
	}{
		{nil, "", 0},
		{[]string{"--schedule", "every 1d"}, `schedule: "every 1d", next 20`, 0},
		{nil, `schedule: "every 1d", next 20`, 0},
		{[]string{"--schedule", `{"cron": "0 6 * * 1", "timezone": "Europe/London"}`}, `"cron"`, 0},
		{nil, `"cron"`, 0},
		{[]string{"--schedule", "often"}, `"cron"`, 2},
		{[]string{"--schedule", `{"cron": `}, `"cron"`, 2},
		{[]string{"--schedule", "none"}, "", 0},
		{nil, "", 0},
	} {
		if code, out, said := s.specstore(append([]string{"push", example, "--quiet"}, c.args...)...); code != c.exit {
			t.Fatalf("push %q: got exit %d, want %d: %s%s", c.args, code, c.exit, out, said)
		}
		code, shown, said := s.specstore("status", "local/elements")
		if code != 0 {
			t.Fatalf("status: exit %d: %s", code, said)
		}
		if got := strings.Contains(shown, "schedule:"); got != (c.want != "") || !strings.Contains(shown, c.want) {
			t.Errorf("after push %q: got %s, want %q", c.args, shown, c.want)
		}
	}
}
