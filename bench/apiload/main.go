// Command apiload measures specstore's API beside bench/apifloor, or as its database
// grows, and prints tables in Markdown. It starts what it needs on this machine's
// loopback, asks a bounded number of seconds, and stops all of it.
//
//	apiload -specstore bin/specstore -floor bin/apifloor
//	apiload -specstore bin/specstore -growth
//
// The two servers are asked in turns, in short rounds, and what is stated is the ratio
// of the medians over the rounds, since machines are noisy. A server's CPU time is that
// which the system has counted for its process; a database server's is not in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/datahq/specstore/bench/measure"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

type options struct {
	specstore, floor string
	databases        []string
	requests         []string
	conns            []int
	sizes            []int
	datasets         int
	rounds           int
	round            time.Duration
	each             int // requests of a connection in a round; 0 is by time
	growth           bool
	fsync            bool // of PostgreSQL
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "apiload:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.specstore, "specstore", "bin/specstore", "specstore's `binary`")
	flag.StringVar(&o.floor, "floor", "bin/apifloor", "apifloor's `binary`")
	flag.IntVar(&o.datasets, "datasets", 10_000, "how many there are")
	flag.IntVar(&o.rounds, "rounds", 7, "how many of each server are measured, for each number of connections")
	flag.DurationVar(&o.round, "round", 500*time.Millisecond, "how long each takes")
	flag.IntVar(&o.each, "each", 0, "`number` of requests that each connection sends in a round; 0 is as many as fit -round")
	flag.BoolVar(&o.growth, "growth", false, "measure specstore alone, as its database grows")
	flag.BoolVar(&o.fsync, "fsync", false, "let PostgreSQL's commits wait for the disk")
	databases := flag.String("databases", "postgres,sqlite", "which")
	requests := flag.String("requests", "status,status-open,not-modified,update,upload", "which")
	conns := flag.String("conns", "1,16,64", "how many connections")
	sizes := flag.String("sizes", "1000,10000,100000,1000000", "how many revisions, with -growth")
	flag.Parse()
	o.databases, o.requests = strings.Split(*databases, ","), strings.Split(*requests, ",")
	var err error
	if o.conns, err = numbers(*conns); err != nil {
		return err
	}
	if o.sizes, err = numbers(*sizes); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "apiload")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stdout, measure.Machine())
	for _, kind := range o.databases {
		if err := o.measure(ctx, dir, sqldb.Dialect(kind)); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

func numbers(list string) (n []int, err error) {
	for s := range strings.SplitSeq(list, ",") {
		one, err := strconv.Atoi(s)
		if err != nil {
			return nil, err
		}
		n = append(n, one)
	}
	return n, nil
}

// measure makes a database of a kind, and measures.
func (o options) measure(ctx context.Context, dir string, kind sqldb.Dialect) (err error) {
	var maker databases
	if kind == sqldb.Postgres {
		start := testkit.StartPostgres
		if o.fsync {
			start = testkit.StartDurablePostgres
		}
		url, stop, err := start()
		if err != nil {
			return err
		}
		defer func() { _ = stop() }()
		maker = &postgresDatabases{url}
	} else {
		maker = &sqliteDatabases{dir}
	}
	version, err := maker.version(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "\n%s\n\n", version)
	if o.growth {
		return o.grow(ctx, dir, maker)
	}
	return o.compare(ctx, dir, maker)
}

// compare measures both servers on databases that are the same.
func (o options) compare(ctx context.Context, dir string, maker databases) (err error) {
	ours, err := maker.create(ctx, "ours")
	if err != nil {
		return err
	}
	b, err := fill(ctx, o, dir, ours)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	all := shape{datasets: o.datasets, ended: 1, open: o.datasets, opens: 1}
	if err := b.grow(ctx, ours, 0, all); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	floor, err := maker.copy(ctx, "ours", "floor")
	if err != nil {
		return err
	}
	var sides [2]*measure.Process
	if sides[0], err = startSpecstore(ctx, o.specstore, dir, ours, "embedded"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sides[0].Stop()) }()
	if sides[1], err = startFloor(ctx, o.floor, floor); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sides[1].Stop()) }()
	fmt.Fprintln(os.Stdout, "| request | connections | CPU µs/request | floor | ratio | requests/s | floor | ratio | p50 ms | floor | p99 ms | floor |")
	fmt.Fprintln(os.Stdout, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	loads := [2]*load{b.load(o, all), b.load(o, all)}
	for _, request := range o.requests {
		for _, conns := range o.conns {
			var results [2]results
			var apart []float64
			if request == "not-modified" {
				continue // the floor has none: see alone
			}
			for round := range o.rounds + 1 {
				if request == "upload" && round > 0 {
					one, err := checkAndPlan()
					if err != nil {
						return err
					}
					apart = append(apart, one)
				}
				for i := range sides {
					side := (i + round) % 2
					r, err := loads[side].run(ctx, sides[side], request, conns)
					if err != nil {
						return fmt.Errorf("%s of %s: %w", request, sides[side].Name, err)
					}
					if round > 0 { // the first warms
						results[side].add(r)
					}
				}
			}
			a, f := &results[0], &results[1]
			fmt.Fprintf(os.Stdout, "| %s | %d | %.0f | %.0f | **%.2f** | %.0f | %.0f | **%.2f** | %.2f | %.2f | %.2f | %.2f |\n",
				request, conns, a.cpu(), f.cpu(), a.cpu()/f.cpu(), a.rate(), f.rate(), f.rate()/a.rate(),
				a.quantile(.5), f.quantile(.5), a.quantile(.99), f.quantile(.99))
			if len(apart) > 0 {
				slices.Sort(apart)
				own := apart[len(apart)/2]
				fmt.Fprintf(os.Stdout, "| without checking and planning (%.0f) | %d | %.0f | %.0f | **%.2f** | | | | | | | |\n", own, conns, a.cpu()-own, f.cpu(), (a.cpu()-own)/f.cpu())
			}
		}
	}
	for _, request := range o.requests {
		if request != "not-modified" {
			continue
		}
		for _, conns := range o.conns {
			var a results
			for range o.rounds {
				r, err := loads[0].run(ctx, sides[0], request, conns)
				if err != nil {
					return err
				}
				a.add(r)
			}
			fmt.Fprintf(os.Stdout, "| %s | %d | %.0f | | | %.0f | | | %.2f | | %.2f | |\n",
				request, conns, a.cpu(), a.rate(), a.quantile(.5), a.quantile(.99))
		}
	}
	return nil
}

// grow measures specstore with databases of several sizes, in turns.
func (o options) grow(ctx context.Context, dir string, maker databases) (err error) {
	servers, loads := make([]*measure.Process, len(o.sizes)), make([]*load, len(o.sizes))
	for i, size := range o.sizes {
		name := fmt.Sprintf("ours_%d", size)
		url, err := maker.create(ctx, name)
		if err != nil {
			return err
		}
		b, err := fill(ctx, o, filepath.Join(dir, name), url)
		if err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		// The flows that are open are as many each time: they are work, not history.
		grown := shape{datasets: size / revisionsEach, ended: revisionsEach, open: openDatasets, opens: openFlows}
		if err := b.grow(ctx, url, 0, grown); err != nil {
			return fmt.Errorf("fill to %d: %w", size, err)
		}
		if servers[i], err = startSpecstore(ctx, o.specstore, filepath.Join(dir, name), url, "embedded"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, servers[i].Stop()) }()
		loads[i] = b.load(o, grown)
	}
	fmt.Fprintln(os.Stdout, "| request | revisions | CPU µs/request | to the first | p50 ms | to the first | p99 ms |")
	fmt.Fprintln(os.Stdout, "|---|---:|---:|---:|---:|---:|---:|")
	for _, request := range []string{"status", "status-open", "update", "upload"} {
		all := make([]results, len(o.sizes))
		for round := range o.rounds + 2 {
			for n := range servers {
				i := (n + round) % len(servers)
				one, err := loads[i].run(ctx, servers[i], request, 4)
				if err != nil {
					return fmt.Errorf("%s: %w", request, err)
				}
				if round > 1 { // the first warm
					all[i].add(one)
				}
			}
		}
		first := &all[0]
		for i := range all {
			r := &all[i]
			fmt.Fprintf(os.Stdout, "| %s | %d | %.0f | %.2f | %.2f | %.2f | %.2f |\n",
				request, o.sizes[i], r.cpu(), r.cpu()/first.cpu(), r.quantile(.5), r.quantile(.5)/first.quantile(.5), r.quantile(.99))
		}
		if n := len(all); n > 1 {
			// The slope of a power law between the first and the last: 0 is flat.
			slope := func(of func(*results) float64) float64 {
				return math.Log10(of(&all[n-1])/of(first)) / math.Log10(float64(o.sizes[n-1])/float64(o.sizes[0]))
			}
			fmt.Fprintf(os.Stdout, "| %s | for each tenfold | | %+.0f %% | | %+.0f %% | |\n", request,
				100*(math.Pow(10, slope((*results).cpu))-1), 100*(math.Pow(10, slope(func(r *results) float64 { return r.quantile(.5) }))-1))
		}
	}
	return nil
}

const (
	revisionsEach = 10 // of a dataset, as its database grows
	openDatasets  = 100
	openFlows     = 40 // of each of these
)
