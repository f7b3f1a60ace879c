package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/testkit"
)

// maxResident is what a run may have in memory at its peak, whatever its table is like.
const maxResident = 100 << 20

// maxLargest is the same for a cell of the greatest length.
const maxLargest = 200 << 20

// TestMemory runs the program itself on tables that are long, wide, or of large cells,
// with all outputs, and looks at the peak of its memory.
func TestMemory(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "specstore")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../cmd/specstore")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := []string{"parquet", "sqlite"}
	for _, c := range []struct {
		name      string
		columns   int
		bytes     int64
		cell      func(row, column int) string
		fieldType string
		outputs   []string // beside those of every table
		most      int64
	}{
		{name: "long", columns: 8, bytes: 40 << 20, fieldType: "integer", outputs: all, most: maxResident, cell: func(r, c int) string { return fmt.Sprint(r*31 + c) }},
		{name: "wide", columns: 1000, bytes: 20 << 20, fieldType: "number", outputs: all, most: maxResident, cell: func(r, c int) string { return fmt.Sprintf("%d.%02d", r, c%100) }},
		{name: "large cells", columns: 2, bytes: 30 << 20, fieldType: "string", outputs: all, most: maxResident, cell: func(r, c int) string { return strings.Repeat(string(rune('a'+(r+c)%26)), 1<<20) }},
		{name: "largest cell", columns: 2, bytes: 1 << 20, fieldType: "string", most: maxLargest, cell: func(_, c int) string { return strings.Repeat("x", (64<<20-8)*(1-c)) }},
		{name: "largest row", columns: 120, bytes: 1 << 20, fieldType: "string", most: 2*120<<20 + 60<<20, cell: func(_, _ int) string { return strings.Repeat("x", 1<<20) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			spec := memoryTable(t, dir, c.columns, c.bytes, c.fieldType, c.outputs, c.cell)
			cmd := exec.CommandContext(t.Context(), bin, "run", spec, "--out", filepath.Join(dir, "out"), "--quiet")
			var said bytes.Buffer
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			var resident int64
			var err error
			for running := true; running; {
				select {
				case err = <-ended:
					running = false
				case <-time.After(5 * time.Millisecond):
					resident = max(resident, peak(cmd.Process.Pid))
				}
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, said.String())
			}
			if resident == 0 {
				t.Fatal("the system does not tell the peak of the process's memory")
			}
			t.Logf("%d MiB at the peak", resident>>20)
			if resident > c.most {
				t.Errorf("%d MiB at the peak, at most %d are allowed", resident>>20, c.most>>20)
			}
		})
	}
}

// peak is the most memory that a process has had resident so far, in bytes; 0 where it
// is gone (proc_pid_status(5); what wait tells counts the process that started it, too).
func peak(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0
	}
	return kib << 10
}

// memoryTable writes a table and a spec that asks for all that is made of one.
func memoryTable(t *testing.T, dir string, columns int, size int64, fieldType string, outputs []string, cell func(row, column int) string) string {
	t.Helper()
	f := testkit.Must(os.Create(filepath.Join(dir, "t.csv")))(t)
	defer f.Close()
	w := bufio.NewWriter(f)
	fields := make([]map[string]any, columns)
	var written int64
	write := func(s string) {
		n := testkit.Must(w.WriteString(s))(t)
		written += int64(n)
	}
	for c := range columns {
		name := fmt.Sprintf("c%d", c)
		fields[c] = map[string]any{"name": name, "type": fieldType}
		write(name + ","[:min(1, columns-1-c)])
	}
	for r := 0; written < size; r++ {
		write("\n")
		for c := range columns {
			write(cell(r, c) + ","[:min(1, columns-1-c)])
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	kinds := []any{}
	for _, kind := range outputs {
		kinds = append(kinds, map[string]any{"kind": kind})
	}
	spec := testkit.Must(json.Marshal(map[string]any{
		"meta": map[string]any{"version": 1, "ownerid": "me", "dataset": "d"},
		"inputs": []any{map[string]any{"kind": "datapackage", "url": "datapackage.json", "parameters": map[string]any{
			"descriptor": map[string]any{"resources": []any{map[string]any{"name": "t", "path": "t.csv", "schema": map[string]any{"fields": fields}}}},
		}}},
		"outputs": kinds,
	}))(t)
	path := filepath.Join(dir, "spec.json")
	if err := os.WriteFile(path, spec, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
