// Command strangers measures what a server of the API takes in memory at its peak while
// callers without a token do what costs much: long and stalled bodies, values without
// number, aliases of YAML, a private dataset of a long spec, and watchers of events that
// do not come.
//
// Each case has a server of its own in an empty folder of this machine. It prints
// Markdown. The limit of open files must allow the watchers: ulimit -n.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/datahq/specstore/bench/measure"
)

func main() {
	o := options{}
	flag.StringVar(&o.binary, "specstore", "bin/specstore", "the program")
	flag.IntVar(&o.bodies, "bodies", 64, "bodies at the same time")
	flag.IntVar(&o.watchers, "watchers", 10_000, "watchers at the same time")
	flag.IntVar(&o.hidden, "hidden", 30, "requests at the same time for a hidden dataset")
	flag.DurationVar(&o.idle, "idle", 20*time.Second, "how long the watchers wait")
	flag.StringVar(&o.only, "only", "", "the cases with this in their name alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "strangers:", err)
		os.Exit(1)
	}
}

type options struct {
	binary, only             string
	bodies, watchers, hidden int
	idle                     time.Duration
}

// server is a server and where it keeps its data.
type server struct {
	*measure.Process
	dir string
}

func (o options) run(ctx context.Context) error {
	fmt.Printf("%s\n\n| case | statuses | time, s | resident at its peak, MB | afterwards, MB |\n|---|---|---|---|---|\n", measure.Machine())
	values := strings.Repeat("{},", 5<<20)
	for _, c := range []struct {
		name string
		do   func(context.Context, *server) (string, error)
	}{
		{"at rest", func(context.Context, *server) (string, error) { return "", nil }},
		{"[{},{},...], 16 MB", o.together("/source/upload", "application/json", `{"a":[`+values[:15<<20]+`{}]}`)},
		{"[{},{},...], 60 KB", o.together("/source/upload", "application/json", `{"a":[`+values[:60<<10/3*3]+`{}]}`)},
		{"YAML aliases, 1 MB", o.together("/source/plan", "application/yaml", aliases(1<<20))},
		{"YAML aliases, 60 KB", o.together("/source/plan", "application/yaml", aliases(60<<10))},
		{"YAML values, 60 KB", o.together("/source/plan", "application/yaml", "a: ["+strings.Repeat("{},", 20<<10)+"{}]")},
		{"update, 4 MB", o.together("/source/update", "application/json", `{"log":[`+strings.Repeat(`"",`, 1<<20)+`""]}`)},
		{"authorize, 8 MB", o.together("/rawstore/authorize", "application/json", `{"filedata":{`+files(8<<20)+`"":{}}}`)},
		{"header of a form, 8 MB", o.together("/rawstore/o", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\""+strings.Repeat("x", 8<<20))},
		{"hidden, spec of 15 MB", o.unseen},
		{"watchers of events", o.watch},
	} {
		if !strings.Contains(c.name, o.only) {
			continue
		}
		if err := o.measure(ctx, c.name, c.do); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

func (o options) measure(ctx context.Context, name string, do func(context.Context, *server) (string, error)) (err error) {
	dir, err := os.MkdirTemp("", "specstore-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := measure.Serve(ctx, o.binary, dir, []string{"SPECSTORE_RUNNER=external"}, "--no-workers")
	if err != nil {
		return err
	}
	s := &server{p, dir}
	defer func() { err = errors.Join(err, s.Stop()) }()
	begun := time.Now()
	statuses, err := do(ctx, s)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	peak, err := s.memory("VmHWM")
	if err != nil {
		return err
	}
	is, err := s.memory("VmRSS")
	if err != nil {
		return err
	}
	fmt.Printf("| %s | %s | %.1f | %.0f | %.0f |\n", name, statuses, took.Seconds(), peak, is)
	return nil
}

// memory reads a line of the memory of the server, in MB.
func (s *server) memory(line string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1000, err
		}
	}
	return 0, fmt.Errorf("there is no %s", line)
}

// aliases is a YAML document that a long text is in many times.
func aliases(size int) string {
	return "a: &a " + strings.Repeat("x", size/2) + "\nb: [" + strings.Repeat("*a,", size/8) + "*a]\n"
}

func files(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `"%x":{},`, i)
	}
	return b.String()
}

// count says how often what came.
type count struct {
	mu sync.Mutex
	of map[string]int
}

func (c *count) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[what]++
}

func (c *count) String() string {
	var list []string
	for what, n := range c.of {
		list = append(list, fmt.Sprintf("%d × %s", n, what))
	}
	return strings.Join(list, ", ")
}

// together sends one body over many connections at the same time.
func (o options) together(path, contentType, body string) func(context.Context, *server) (string, error) {
	return func(ctx context.Context, s *server) (string, error) {
		return o.ask(ctx, o.bodies, func(ctx context.Context) (*http.Request, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, strings.NewReader(body))
			if err == nil {
				req.Header.Set("Content-Type", contentType)
			}
			return req, err
		})
	}
}

const within = 50 * time.Second // for what a case asks

func (o options) ask(ctx context.Context, n int, request func(context.Context) (*http.Request, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var statuses count
	var done sync.WaitGroup
	for range n {
		done.Go(func() {
			req, err := request(ctx)
			if err != nil {
				statuses.add(err.Error())
				return
			}
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			res, err := client.Do(req)
			switch {
			case ctx.Err() != nil:
				statuses.add("no answer in time")
			case err != nil:
				statuses.add("cut off")
			default:
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				statuses.add(strconv.Itoa(res.StatusCode))
			}
		})
	}
	done.Wait()
	return statuses.String(), nil
}

// upload uploads a dataset whose description is long.
func (o options) upload(ctx context.Context, s *server, findability string, length int) error {
	cmd := exec.CommandContext(ctx, o.binary, "token", "--owner", "me", "--service", "source")
	cmd.Env = append(os.Environ(), "SPECSTORE_DATA="+filepath.Join(s.dir, "data"))
	token, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	spec := fmt.Sprintf(`{"meta":{"ownerid":"me","dataset":"d","findability":%q},"inputs":[{"kind":"datapackage","parameters":{"descriptor":{"description":%q,
		"resources":[{"name":"t","path":"http://example.com/t.csv","schema":{"fields":[{"name":"id"}]}}]}}}]}`, findability, strings.Repeat("x", length))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/source/upload", strings.NewReader(spec))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Auth-Token", strings.TrimSpace(string(token)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("upload: %s %s", res.Status, text)
	}
	return nil
}

// unseen asks for a private dataset. The peak is that of the upload where that is more:
// the server is asked for what it has before, and the peak is begun anew.
func (o options) unseen(ctx context.Context, s *server) (string, error) {
	if err := o.upload(ctx, s, "private", 15<<20); err != nil {
		return "", err
	}
	before, err := s.memory("VmRSS")
	if err != nil {
		return "", err
	}
	const forget = "5" // proc(5), clear_refs: the peak is what is resident
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.Cmd.Process.Pid), []byte(forget), 0); err != nil {
		return "", err
	}
	cpu, err := s.CPU()
	if err != nil {
		return "", err
	}
	statuses, err := o.ask(ctx, o.hidden, func(ctx context.Context) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/source/me/d/1", nil)
	})
	after, err2 := s.CPU()
	return fmt.Sprintf("%s; CPU %.3f s; resident before %.0f MB", statuses, (after - cpu).Seconds(), before), errors.Join(err, err2)
}

// watch opens streams of events of an open flow, and waits.
func (o options) watch(ctx context.Context, s *server) (string, error) {
	if err := o.upload(ctx, s, "published", 10); err != nil {
		return "", err
	}
	var statuses count
	conns := make([]net.Conn, o.watchers)
	var done sync.WaitGroup
	next := make(chan int)
	for range 16 {
		done.Go(func() {
			for i := range next {
				conn, status, err := open(ctx, s.Host())
				if err != nil {
					status = err.Error()
				}
				conns[i] = conn
				statuses.add(status)
			}
		})
	}
	for i := range conns {
		next <- i
	}
	close(next)
	done.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close() // the server may have ended it
			}
		}
	}()
	select {
	case <-time.After(o.idle):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	is, err := s.memory("VmRSS")
	return fmt.Sprintf("%s; resident after %v: %.0f MB", statuses.String(), o.idle, is), err
}

// open opens a stream of events and reads it as far as the events that are there.
func open(ctx context.Context, host string) (_ net.Conn, status string, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, "", err
	}
	if _, err := fmt.Fprintf(conn, "GET /source/me/d/1/events HTTP/1.1\r\nHost: %s\r\nUser-Agent: strangers\r\nAccept: text/event-stream\r\n\r\n", host); err != nil {
		return conn, "", err
	}
	_ = conn.SetReadDeadline(time.Now().Add(within))
	var head []byte
	part := make([]byte, 4096)
	for !bytes.Contains(head, []byte("id: 1\n")) {
		n, err := conn.Read(part)
		head = append(head, part[:n]...)
		if err == nil {
			continue
		}
		if len(head) == 0 {
			return conn, "", err
		}
		break // it was refused, and its status says how
	}
	line, _, _ := strings.Cut(string(head), "\r\n")
	return conn, strings.TrimPrefix(line, "HTTP/1.1 "), nil
}
