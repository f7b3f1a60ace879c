// Command flow measures specstore run beside other programs, on a table that it makes.
//
// Machines are noisy, so the programs take turns, round by round, and what counts are
// ratios of the medians and processor seconds. Programs that the machine lacks are left
// out and named. It prints Markdown.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/datahq/specstore/bench/measure"
)

func main() {
	rows := flag.Int("rows", 1_400_000, "rows of the table, about 74 bytes each")
	rounds := flag.Int("rounds", 5, "rounds, in each of which every program runs once")
	binary := flag.String("specstore", "bin/specstore", "the program")
	growth := flag.Bool("growth", false, "measure the cost of a row from 10,000 rows up to -rows instead")
	peers := flag.Bool("peers", false, "measure beside other tools instead: Miller (mlr), datapackage-pipelines (dpp), DuckDB and frictionless (modules of python3)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *binary, *rows, *rounds, *growth, *peers)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "flow:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, rows, rounds int, growth, peers bool) error {
	dir, err := os.MkdirTemp("", "specstore-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{binary: binary, dir: dir}
	fmt.Printf("%s\n\n", measure.Machine())
	switch {
	case growth:
		return b.growth(ctx, rows, rounds)
	case peers:
		return b.peers(ctx, rows, rounds)
	}
	return b.flow(ctx, rows, rounds)
}

// bench runs programs on a table in a folder.
type bench struct{ binary, dir string }

// program is one of those that take turns.
type program struct {
	name string
	make func(ctx context.Context) *exec.Cmd
	uses []usage // a round each
}

// usage is what a run cost.
type usage struct {
	wall, cpu time.Duration
	memory    int64 // peak resident, bytes
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// specstore runs a command of ours.
func (b *bench) specstore(args ...string) func(context.Context) *exec.Cmd {
	return func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, b.binary, args...) }
}

// flowOf runs the flow of a spec into a folder that is new each time.
func (b *bench) flowOf(spec string) func(context.Context) *exec.Cmd {
	return func(ctx context.Context) *exec.Cmd {
		out := b.path("out")
		_ = os.RemoveAll(out) // what is left shows as an error of the run
		return exec.CommandContext(ctx, b.binary, "run", b.path(spec), "--out", out, "--quiet")
	}
}

func quiet(name string, args ...string) func(context.Context) *exec.Cmd {
	return func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, name, args...) }
}

// in runs a program in a folder.
func (b *bench) in(dir, name string, args ...string) func(context.Context) *exec.Cmd {
	return func(ctx context.Context) *exec.Cmd {
		_ = os.RemoveAll(b.path("dumped"))
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		return cmd
	}
}

// absolute is a program's path from any folder.
func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil && strings.ContainsRune(path, filepath.Separator) {
		return a
	}
	return path
}

// rounds runs the programs in turns.
func (b *bench) rounds(ctx context.Context, n int, programs []*program) error {
	for range n {
		for _, p := range programs {
			cmd := p.make(ctx)
			var said bytes.Buffer
			cmd.Stderr = &said
			begun := time.Now()
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%s: %w\n%s", p.name, errors.Join(err, ctx.Err()), said.String())
			}
			used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok {
				return errors.New("this system does not tell what a process used")
			}
			p.uses = append(p.uses, usage{
				time.Since(begun), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), used.Maxrss << 10,
			})
		}
	}
	return nil
}

// median of what the runs cost, by part.
func (p *program) median(of func(usage) int64) int64 {
	all := make([]int64, len(p.uses))
	for i, u := range p.uses {
		all[i] = of(u)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func wall(u usage) int64   { return int64(u.wall) }
func cpu(u usage) int64    { return int64(u.cpu) }
func memory(u usage) int64 { return u.memory }

// ratio is the median over the rounds of one program's cost by another's in the same
// round.
func ratio(p, to *program, of func(usage) int64) float64 {
	all := make([]float64, len(p.uses))
	for i := range p.uses {
		all[i] = float64(of(p.uses[i])) / float64(of(to.uses[i]))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// table prints programs beside the first.
func table(programs []*program) {
	fmt.Printf("| program | wall s | CPU s | peak MB | wall to the first | CPU to the first |\n|---|---|---|---|---|---|\n")
	for _, p := range programs {
		fmt.Printf("| %s | %.2f | %.2f | %d | %.2f | %.2f |\n", p.name,
			time.Duration(p.median(wall)).Seconds(), time.Duration(p.median(cpu)).Seconds(), p.median(memory)>>20,
			ratio(p, programs[0], wall), ratio(p, programs[0], cpu))
	}
	fmt.Println()
}

// flow measures the budgets of the engine: all standard outputs beside gzip -6 of the
// source, and with Parquet and SQLite too.
func (b *bench) flow(ctx context.Context, rows, rounds int) error {
	size, err := b.makeTable(rows)
	if err != nil {
		return err
	}
	fmt.Printf("%d rows, %.1f MB, %d rounds\n\n", rows, float64(size)/1e6, rounds)
	programs := []*program{
		{name: "gzip -6", make: func(ctx context.Context) *exec.Cmd {
			cmd := exec.CommandContext(ctx, "gzip", "-6", "-c", b.path("table.csv"))
			cmd.Stdout = io.Discard
			return cmd
		}},
		{name: "run, standard outputs", make: b.flowOf("standard.json")},
		{name: "run, and Parquet and SQLite", make: b.flowOf("all.json")},
		{name: "validate", make: b.specstore("validate", b.dir, "--quiet")},
	}
	if err := b.rounds(ctx, rounds, programs); err != nil {
		return err
	}
	table(programs)
	return b.archive()
}

// growth measures what a row costs in tables of different length.
func (b *bench) growth(ctx context.Context, most, rounds int) error {
	fmt.Println("| rows | wall µs a row | CPU µs a row | peak MB |\n|---|---|---|---|")
	for rows := 10_000; rows <= most; rows *= 10 {
		if _, err := b.makeTable(rows); err != nil {
			return err
		}
		p := &program{name: "run", make: b.flowOf("standard.json")}
		if err := b.rounds(ctx, rounds, []*program{p}); err != nil {
			return err
		}
		per := func(of func(usage) int64) float64 { return float64(p.median(of)) / 1e3 / float64(rows) }
		fmt.Printf("| %d | %.2f | %.2f | %d |\n", rows, per(wall), per(cpu), p.median(memory)>>20)
	}
	return nil
}

// peers measures tools that do a part of it beside the whole.
func (b *bench) peers(ctx context.Context, rows, rounds int) error {
	size, err := b.makeTable(rows)
	if err != nil {
		return err
	}
	fmt.Printf("%d rows, %.1f MB, %d rounds\n\n", rows, float64(size)/1e6, rounds)
	csv := b.path("table.csv")
	programs := []*program{
		{name: "specstore run (report, CSV, JSON, preview, ZIP)", make: b.flowOf("standard.json")},
		{name: "specstore run, and Parquet and SQLite", make: b.flowOf("all.json")},
		{name: "specstore validate", make: b.specstore("validate", b.dir, "--quiet")},
		{name: "specstore run of the same pipeline-spec", make: b.in(b.dir, absolute(b.binary), "run", "pipeline-spec.yaml", "--quiet")},
		{name: "specstore cat --json", make: b.specstore("cat", csv, "--json")},
	}
	duck := func(to string) string {
		return fmt.Sprintf(`import duckdb; duckdb.sql("COPY (SELECT * FROM read_csv('%s')) TO '%s'")`, csv, b.path("duck."+to))
	}
	for _, tool := range []struct {
		needs   []string
		program *program
	}{
		{[]string{"mlr", "--version"}, &program{name: "Miller, CSV to JSON", make: quiet("mlr", "--icsv", "--ojson", "cat", csv)}},
		{[]string{"python3", "-c", "import duckdb"}, &program{name: "DuckDB, CSV to JSON", make: quiet("python3", "-c", duck("json"))}},
		{[]string{"python3", "-c", "import duckdb"}, &program{name: "DuckDB, CSV to Parquet", make: quiet("python3", "-c", duck("parquet"))}},
		{[]string{"dpp", "version"}, &program{name: "datapackage-pipelines: load, set_types, dump_to_path", make: b.in(b.dir, "dpp", "run", "--no-use-cache", "./table")}},
		{[]string{"python3", "-c", "import frictionless"}, &program{name: "frictionless validate", make: quiet("python3", "-m", "frictionless", "validate", b.path("datapackage.json"))}},
	} {
		if err := exec.CommandContext(ctx, tool.needs[0], tool.needs[1:]...).Run(); err != nil {
			fmt.Printf("left out, not on this machine: %s\n\n", tool.program.name)
			continue
		}
		programs = append(programs, tool.program)
	}
	if err := b.rounds(ctx, rounds, programs); err != nil {
		return err
	}
	table(programs)
	return nil
}
