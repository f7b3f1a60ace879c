// Command soak runs specstore for a time while its processes are killed and stopped, its
// disk fills and its database goes away, with hostile specs and clients beside honest
// ones, and checks the recorded history: nothing that was accepted is lost, double, stuck
// or torn, and /healthz answers within a second of every server that is to answer.
//
//	soak -specstore bin/specstore -database postgres -for 1h
//
// Everything is on this machine's loopback; it stops by itself. The history is one JSON
// record a line. The disk fills where root may mount a small file system (tmpfs), else
// that part is left out, which is said.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/datahq/specstore/bench/measure"
	"github.com/datahq/specstore/client"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

const (
	probeEvery  = 200 * time.Millisecond
	settle      = 2 * time.Second  // after a start, until probes count
	stopTime    = 20 * time.Second // for a process to end by SIGTERM
	requestTime = 40 * time.Second
	goodUsers   = 3
)

// soak is one run on one kind of database.
type soak struct {
	binary    string
	dir       string // of logs and data
	disk      string // a small file system that holds the data; empty where there is none
	seed      uint64
	long      time.Duration // that faults and pushes go on
	drain     time.Duration // for all flows to end afterwards
	probe     time.Duration // that an answer to /healthz may take
	rest      time.Duration // of a user after a push
	database  sqldb.Dialect
	history   *history
	processes []*process
	proxy     *proxy
	over      atomic.Bool

	counts counts
	mu     sync.Mutex
	good   []publication
	gone   map[string]bool // datasets that were erased
}

// counts are how often things were done.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what]++
}

func main() { os.Exit(soakAll()) }

// soakAll soaks one kind of database after the other, and returns the exit code.
func soakAll() int {
	binary := flag.String("specstore", "bin/specstore", "specstore's `binary`")
	databases := flag.String("database", "postgres,sqlite", "on which, one after the other")
	long := flag.Duration("for", time.Hour, "how long in all, shared by the databases")
	drain := flag.Duration("drain", 5*time.Minute, "how long all flows may take to end, when nothing is done to servers any more")
	rest := flag.Duration("rest", 0, "how long each user waits after a push")
	probe := flag.Duration("probe", time.Second, "how long an answer to /healthz may take")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what is random")
	out := flag.String("history", "", "`folder` for histories and logs; without it they are kept only where something was wrong")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Println(measure.Machine())
	kinds := strings.Split(*databases, ",")
	wrong := false
	for _, kind := range kinds {
		s := &soak{database: sqldb.Dialect(kind), long: *long / time.Duration(len(kinds)), drain: *drain, probe: *probe, rest: *rest, seed: *seed, gone: map[string]bool{}}
		bad, err := s.run(ctx, *binary, *out)
		if err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
			return 1
		}
		wrong = wrong || bad
	}
	if wrong {
		return 1
	}
	return 0
}

// run soaks one kind of database and prints what came of it.
func (s *soak) run(ctx context.Context, binary, out string) (wrong bool, err error) {
	if out == "" {
		if out, err = os.MkdirTemp("", "soak-"); err != nil {
			return false, err
		}
		defer func() {
			if !wrong && err == nil {
				err = os.RemoveAll(out)
			}
		}()
	}
	dir, err := filepath.Abs(filepath.Join(out, string(s.database)))
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	log, err := os.Create(filepath.Join(dir, "history.ndjson"))
	if err != nil {
		return false, err
	}
	defer log.Close()
	s.dir, s.history = dir, newHistory(log)
	// A copy of its own, so that processes left over are told from others'.
	s.binary = filepath.Join(dir, "specstore")
	if err := copyFile(binary, s.binary); err != nil {
		return false, err
	}
	fmt.Printf("%s for %s, seed %d, in %s\n", s.database, s.long.Round(time.Second), s.seed, dir)
	unmount, err := s.mount(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	if err := s.soak(ctx); err != nil {
		return true, err
	}
	if s.history.failed != nil {
		return true, fmt.Errorf("the history: %w", s.history.failed)
	}
	faults := check(s.history.all())
	s.print(faults)
	return len(faults) > 0, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, in); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

const diskSize = "2g"

// mount makes the small file system that the data lies on.
func (s *soak) mount(ctx context.Context) (unmount func() error, err error) {
	disk := filepath.Join(s.dir, "disk")
	if err := os.MkdirAll(disk, 0o700); err != nil {
		return nil, err
	}
	out, failed := exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", "size="+diskSize+",mode=700", "tmpfs", disk).CombinedOutput()
	if failed == nil {
		s.disk = disk
		return func() error { return exec.CommandContext(context.WithoutCancel(ctx), "umount", disk).Run() }, nil
	}
	fmt.Printf("NOT DONE: the disk does not fill: %s\n", strings.TrimSpace(string(out)))
	return func() error { return nil }, nil
}

// soak starts everything, lets clients and faults run for a time, undoes the faults, waits
// until all flows have ended, and stops everything.
func (s *soak) soak(ctx context.Context) (err error) {
	address, stop, err := s.startDatabase(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := s.define(ctx, address); err != nil {
		return err
	}
	defer s.end()
	for _, p := range s.processes {
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	users, err := s.users(ctx)
	if err != nil {
		return err
	}
	begin, over := context.WithTimeout(ctx, s.long)
	defer over()
	drained, cancel := context.WithTimeout(ctx, s.long+s.drain)
	defer cancel()
	var pushing, rest sync.WaitGroup
	for i, u := range users {
		pushing.Go(func() {
			switch {
			case i < goodUsers:
				u.goodPushes(begin, drained)
			case i == goodUsers:
				u.erasures(begin, drained)
			default:
				u.hostilePushes(begin, drained)
			}
		})
	}
	rest.Go(func() { s.faults(begin) })
	rest.Go(func() { s.strangers(begin) })
	probing, stopProbes := context.WithCancel(ctx)
	defer stopProbes()
	var probes sync.WaitGroup
	probes.Go(func() { s.probes(probing) })
	probes.Go(func() { s.report(probing) })
	rest.Wait()
	pushing.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	listing, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	s.lists(listing, users)
	stopProbes()
	probes.Wait()
	s.over.Store(true)
	s.stopAll()
	return nil
}

// report prints how far it is, each minute.
func (s *soak) report(ctx context.Context) {
	for {
		pause(ctx, time.Minute)
		if ctx.Err() != nil {
			return
		}
		s.counts.mu.Lock()
		fmt.Printf("%s of %s: %d pushes, %d packages read, %d faults found\n", time.Since(s.history.begun).Round(time.Second), s.long,
			s.counts.n["pushes"], s.counts.n["packages read"]+s.counts.n["packages read again"], len(openFaults(s.history.all())))
		s.counts.mu.Unlock()
	}
}

// openFaults are those of a history that is not at its end.
func openFaults(records []record) []string {
	return slices.DeleteFunc(check(records), func(f string) bool {
		return strings.Contains(f, "did not end") || strings.Contains(f, "was never accepted")
	})
}

// startDatabase starts a PostgreSQL behind a proxy, or names a file of SQLite.
func (s *soak) startDatabase(ctx context.Context) (address string, stop func() error, err error) {
	if s.database == sqldb.SQLite {
		return "", func() error { return nil }, nil
	}
	direct, stopServer, err := testkit.StartPostgres()
	if err != nil {
		return "", nil, err
	}
	u, err := url.Parse(direct)
	if err != nil {
		return "", nil, errors.Join(err, stopServer())
	}
	q := u.Query()
	folder, err := os.MkdirTemp("", "pg") // the path of a socket must be short
	if err != nil {
		return "", nil, errors.Join(err, stopServer())
	}
	if s.proxy, err = newProxy(ctx, filepath.Join(folder, ".s.PGSQL.5432"), filepath.Join(q.Get("host"), ".s.PGSQL.5432")); err != nil {
		return "", nil, errors.Join(err, stopServer())
	}
	q.Set("host", folder)
	u.RawQuery = q.Encode()
	return u.String(), func() error {
		s.proxy.close()
		return errors.Join(stopServer(), os.RemoveAll(folder))
	}, nil
}

// define says which processes there are: two servers and two workers on PostgreSQL, one
// server on SQLite.
func (s *soak) define(ctx context.Context, address string) error {
	data := filepath.Join(s.dir, "data")
	if s.disk != "" {
		data = filepath.Join(s.disk, "data")
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	servers, workers := 1, 0
	if s.database == sqldb.Postgres {
		servers, workers = 2, 2
	}
	public := ""
	env := []string{
		"DATABASE_URL=" + address, "SPECSTORE_DATA=" + data, "SPECSTORE_LOG=json", "SPECSTORE_RUN_TIMEOUT=60s", "SPECSTORE_RUN_MEMORY=512MiB", "SPECSTORE_WORKERS=1",
	}
	for i := range servers {
		port, err := freePort(ctx)
		if err != nil {
			return err
		}
		host := "127.0.0.1:" + strconv.Itoa(port)
		if public == "" {
			public = "http://" + host
		}
		s.processes = append(s.processes, &process{
			name: fmt.Sprintf("serve%d", i), args: []string{"serve", "--addr", host, "--public-url", public},
			env: env, dir: s.dir, url: "http://" + host, binary: s.binary,
		})
	}
	for i := range workers {
		s.processes = append(s.processes, &process{
			name: fmt.Sprintf("worker%d", i), args: []string{"worker", "--public-url", public}, env: env, dir: s.dir, binary: s.binary,
		})
	}
	return nil
}

// servers are the processes that answer.
func (s *soak) servers() []*process {
	return slices.DeleteFunc(slices.Clone(s.processes), func(p *process) bool { return p.url == "" })
}

// users are the owners: some of good datasets, one whose datasets are erased, one hostile.
func (s *soak) users(ctx context.Context) ([]*user, error) {
	var users []*user
	for i := range goodUsers + 2 {
		u := &user{soak: s, owner: fmt.Sprintf("owner%d", i), random: rand.New(rand.NewPCG(s.seed, uint64(100+i)))}
		for _, service := range []string{"rawstore", "source"} {
			cmd := exec.CommandContext(ctx, s.binary, "token", "--owner", u.owner, "--service", service, "--max-datasets", "100000", "--expires", "24h")
			cmd.Env, cmd.Stderr = append(os.Environ(), s.processes[0].env...), os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("token: %w", err)
			}
			token := strings.TrimSpace(string(out))
			if service == "source" {
				u.token = token
			}
			for _, p := range s.servers() {
				c, err := client.New(client.Config{Server: p.url, Token: token})
				if err != nil {
					return nil, err
				}
				if service == "rawstore" {
					u.raw = append(u.raw, c)
				} else {
					u.source = append(u.source, c)
				}
			}
		}
		users = append(users, u)
	}
	return users, nil
}

// probes asks every server that is to answer whether it lives.
func (s *soak) probes(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	for ctx.Err() == nil {
		for _, p := range s.servers() {
			begun := time.Now()
			if !p.answering(begun.Add(-settle)) {
				continue
			}
			asking.Go(func() {
				err := healthy(ctx, p.url)
				took := time.Since(begun)
				// One that was killed or stopped meanwhile was not to answer.
				if ctx.Err() != nil || !p.answering(begun.Add(-settle)) {
					return
				}
				s.counts.add("probes")
				if err != nil || took > s.probe {
					s.history.add(record{Kind: probed, Server: p.name, Text: fmt.Sprintf("%s: %v", took.Round(time.Millisecond), err)})
				}
			})
		}
		pause(ctx, probeEvery)
	}
}

// lists records the revisions of every dataset at the end.
func (s *soak) lists(ctx context.Context, users []*user) {
	datasets := map[string]*user{}
	for _, r := range s.history.all() {
		for _, u := range users {
			if r.Kind == pushed && strings.HasPrefix(r.Dataset, u.owner+"/") && !s.gone[r.Dataset] {
				datasets[r.Dataset] = u
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(datasets)) {
		var numbers []int
		err := datasets[id].try(ctx, func(ctx context.Context, _, source *client.Client) (err error) {
			numbers, err = revisions(ctx, source, id)
			return err
		})
		if err != nil {
			s.history.add(record{Kind: listed, Dataset: id, Bad: err.Error()})
			continue
		}
		s.history.add(record{Kind: listed, Dataset: id, Revisions: numbers})
	}
}

// revisions returns the numbers of a dataset's revisions that are there, from 1 to the
// latest.
func revisions(ctx context.Context, source *client.Client, id string) ([]int, error) {
	latest, err := source.Status(ctx, id, "latest")
	if err != nil {
		return nil, err
	}
	last, err := strconv.Atoi(latest.ID[strings.LastIndexByte(latest.ID, '/')+1:])
	if err != nil {
		return nil, err
	}
	var numbers []int
	for n := 1; n <= last; n++ {
		_, err := source.Status(ctx, id, strconv.Itoa(n))
		if client.StatusCode(err) == 404 {
			continue
		}
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// stopAll stops the processes and records what is left of them.
func (s *soak) stopAll() {
	for _, p := range s.processes {
		s.counts.max("memory of "+p.name+", KiB at most", p.memory())
		if !p.end(syscall.SIGTERM) {
			s.history.add(record{Kind: left, Server: p.name, Text: p.name + " did not end"})
		}
	}
	pause(context.Background(), time.Second)
	for _, pid := range running(s.binary) {
		s.history.add(record{Kind: left, Text: fmt.Sprintf("process %d", pid)})
	}
	data := filepath.Join(s.dir, "data")
	if s.disk != "" {
		data = filepath.Join(s.disk, "data")
	}
	_ = filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "run-") {
			s.history.add(record{Kind: left, Text: path})
		}
		return nil
	})
}

// end kills what is still there, when a run was broken off.
func (s *soak) end() {
	s.over.Store(true)
	for _, p := range s.processes {
		p.end(syscall.SIGKILL)
	}
}

func (c *counts) max(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what] = max(c.n[what], n)
}

func (s *soak) print(faults []string) {
	for _, what := range slices.Sorted(maps.Keys(s.counts.n)) {
		fmt.Printf("%8d  %s\n", s.counts.n[what], what)
	}
	states := map[string]int{}
	last := map[string]record{}
	for _, r := range s.history.all() {
		if r.Kind == seen {
			last[r.Flow] = r
		}
	}
	restarts := 0
	for _, r := range last {
		states[r.State]++
		restarts = max(restarts, r.Attempt)
	}
	fmt.Printf("flows: %v; most attempts of one: %d\n", states, restarts)
	for _, f := range faults[:min(len(faults), 50)] {
		fmt.Println("FAULT:", f)
	}
	fmt.Printf("%s: %d faults\n", s.database, len(faults))
}
