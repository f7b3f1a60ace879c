// Command push measures how long a push takes to its end: of new data, of data that the
// server has, and of fifty tables of which one is new.
//
// It starts a server of its own in an empty folder, speaks to it as any client does, and
// states the time that the disk takes for an fsync beside the figures. It prints Markdown.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/bench/measure"
	"github.com/datahq/specstore/client"
)

func main() {
	binary := flag.String("specstore", "bin/specstore", "the program")
	pushes := flag.Int("n", 30, "pushes of each kind")
	only := flag.String("only", "", "the kinds with this in their name alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *binary, *only, *pushes)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "push:", err)
		os.Exit(1)
	}
}

const owner = "bench"

func run(ctx context.Context, binary, only string, pushes int) (err error) {
	dir, err := os.MkdirTemp("", "specstore-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sync, err := measure.Fsync(dir)
	if err != nil {
		return err
	}
	fmt.Printf("%s; fsync of 4 KiB: %.2f ms (median)\n\n", measure.Machine(), ms(sync))
	s, err := serve(ctx, binary, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	fmt.Println("| push | to SUCCEEDED, median ms | 90th percentile ms | CPU of the server and its children, median ms | pipelines reused |\n|---|---|---|---|---|")
	version := 0
	new100KB := func(tables int, changed func(table int) bool) func() map[string][]byte {
		versions := make([]int, tables)
		return func() map[string][]byte {
			version++
			files := map[string][]byte{}
			for i := range tables {
				if changed(i) {
					versions[i] = version
				}
				files[fmt.Sprintf("t%d.csv", i)] = table(versions[i]*1000+i, 100<<10/tables)
			}
			return files
		}
	}
	for _, kind := range []struct {
		name, dataset string
		files         func() map[string][]byte
	}{
		{"100 KB, new each time", "new", new100KB(1, func(int) bool { return true })},
		{"100 KB, the same each time", "same", new100KB(1, func(int) bool { return false })},
		{"50 tables of 2 KB, all new", "fifty-new", new100KB(50, func(int) bool { return true })},
		{"50 tables of 2 KB, one new", "fifty-one", new100KB(50, func(i int) bool { return i == 7 })},
		{"50 tables of 2 KB, the same", "fifty-same", new100KB(50, func(int) bool { return false })},
	} {
		if !strings.Contains(kind.name, only) {
			continue
		}
		// The first push of a dataset has nothing to go by.
		if _, err := s.push(ctx, kind.dataset, kind.files()); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		var all []pushed
		for range pushes {
			p, err := s.push(ctx, kind.dataset, kind.files())
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			all = append(all, p)
		}
		wall := func(p pushed) time.Duration { return p.wall }
		fmt.Printf("| %s | %.0f | %.0f | %.0f | %d of %d |\n", kind.name, ms(quantile(all, 50, wall)), ms(quantile(all, 90, wall)),
			ms(quantile(all, 50, func(p pushed) time.Duration { return p.cpu })), all[0].reused, all[0].pipelines)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func quantile(all []pushed, percent int, of func(pushed) time.Duration) time.Duration {
	values := make([]time.Duration, len(all))
	for i, p := range all {
		values[i] = of(p)
	}
	slices.Sort(values)
	return values[min(len(values)*percent/100, len(values)-1)]
}

// table is a CSV of about a size.
func table(seed, size int) []byte {
	var b bytes.Buffer
	b.WriteString("id,name,price,day\n")
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%d,item %d,%d.%02d,20%02d-0%d-1%d\n", i, seed+i, i%1000, seed%100, i%30, 1+i%9, i%10)
	}
	return b.Bytes()
}

// server is a server of its own, and clients of it.
type server struct {
	*measure.Process
	raw, source *client.Client
}

// serve starts a server on SQLite and makes its clients.
func serve(ctx context.Context, binary, dir string) (*server, error) {
	begun := time.Now()
	p, err := measure.Serve(ctx, binary, dir, []string{"DATABASE_URL="})
	if err != nil {
		return nil, err
	}
	s := &server{Process: p}
	fmt.Printf("start in an empty folder to the first answer: %.0f ms\n\n", ms(time.Since(begun)))
	data := filepath.Join(dir, "data")
	if s.raw, err = s.client(ctx, binary, data, "rawstore"); err == nil {
		s.source, err = s.client(ctx, binary, data, "source")
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *server) client(ctx context.Context, binary, data, service string) (*client.Client, error) {
	cmd := exec.CommandContext(ctx, binary, "token", "--owner", owner, "--service", service, "--max-datasets", "100")
	cmd.Env = append(os.Environ(), "SPECSTORE_DATA="+data, "DATABASE_URL=")
	cmd.Stderr = os.Stderr
	token, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return client.New(client.Config{Server: s.URL, Token: strings.TrimSpace(string(token))})
}

// pushed is what a push took.
type pushed struct {
	wall, cpu         time.Duration
	reused, pipelines int
}

// push sends the files, then a spec of them, and follows the flow to its end.
func (s *server) push(ctx context.Context, dataset string, files map[string][]byte) (pushed, error) {
	before, err := s.CPU()
	if err != nil {
		return pushed{}, err
	}
	begun := time.Now()
	described := map[string]client.File{}
	for name, body := range files {
		if described[name], err = client.Describe(name, bytes.NewReader(body)); err != nil {
			return pushed{}, err
		}
	}
	leaves, err := s.raw.AuthorizeRaw(ctx, owner, described)
	if err != nil {
		return pushed{}, err
	}
	mapping := map[string]any{}
	var resources []any
	for i := range len(files) {
		name := fmt.Sprintf("t%d.csv", i)
		leave := leaves[name]
		if !leave.Exists {
			if err := s.raw.UploadRaw(ctx, leave, name, bytes.NewReader(files[name]), int64(len(files[name]))); err != nil {
				return pushed{}, err
			}
		}
		mapping[name] = leave.ObjectURL()
		resources = append(resources, map[string]any{"name": fmt.Sprintf("t%d", i), "path": name, "schema": map[string]any{"fields": []any{
			map[string]any{"name": "id", "type": "integer"},
			map[string]any{"name": "name", "type": "string"},
			map[string]any{"name": "price", "type": "number"},
			map[string]any{"name": "day", "type": "date"},
		}}})
	}
	accepted, err := s.source.Upload(ctx, map[string]any{
		"meta": map[string]any{"version": 1, "ownerid": owner, "dataset": dataset, "findability": "published"},
		"inputs": []any{map[string]any{"kind": "datapackage", "parameters": map[string]any{
			"resource-mapping": mapping, "descriptor": map[string]any{"name": dataset, "resources": resources},
		}}},
	}, "")
	if err != nil {
		return pushed{}, err
	}
	for _, err := range s.source.Watch(ctx, accepted.DatasetID, accepted.Revision()) {
		if err != nil {
			return pushed{}, err
		}
	}
	wall := time.Since(begun)
	after, err := s.CPU()
	if err != nil {
		return pushed{}, err
	}
	status, err := s.source.Status(ctx, accepted.DatasetID, accepted.Revision())
	if err != nil {
		return pushed{}, err
	}
	if status.State != "SUCCEEDED" {
		return pushed{}, fmt.Errorf("%s is %s: %q", status.ID, status.State, status.ErrorLog)
	}
	p := pushed{wall: wall, cpu: after - before, pipelines: len(status.Pipelines)}
	for _, one := range status.Pipelines {
		if one.Reused != "" {
			p.reused++
		}
	}
	return p, nil
}
