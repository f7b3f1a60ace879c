package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/datahq/specstore/bench/measure"
)

// load makes the requests to one server, each of which does its work anew.
type load struct {
	*bench
	shape
	round   time.Duration
	each    int // of requests of a connection in a round; 0 is as many as fit its time
	tokens  []string
	updates atomic.Int64 // how many were sent
	others  atomic.Int64
}

func (b *bench) load(o options, s shape) *load {
	l := &load{bench: b, shape: s, round: o.round, each: o.each}
	for i := range owners {
		token, err := b.token(ownerOf(i))
		if err != nil {
			panic(err) // what is signed is fixed
		}
		l.tokens = append(l.tokens, token)
	}
	return l
}

// request writes the next request of a kind. etag is what the last answer had.
func (l *load) request(b *bytes.Buffer, kind, host, etag string) error {
	// A prime step visits datasets in no order and each once.
	n := int(l.others.Add(1) * 7919)
	i := n % l.datasets
	get := func(revision int, more string) {
		fmt.Fprintf(b, "GET /source/%s/%d HTTP/1.1\r\nHost: %s\r\n%s\r\n", datasetOf(i), revision, host, more)
	}
	post := func(path, token, body string) {
		fmt.Fprintf(b, "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, host, token, len(body), body)
	}
	switch kind {
	case "status":
		get(n%l.ended+1, "")
	case "status-open":
		i = n % l.open
		get(l.ended+1+n/l.open%l.opens, "")
	case "not-modified":
		i = 0
		more := ""
		if etag != "" {
			more = "If-None-Match: " + etag + "\r\n"
		}
		get(1, more)
	case "update":
		// One flow after the other gets its next event, never the last: that would end it.
		n := int(l.updates.Add(1) - 1)
		flows := l.open * l.opens
		step := n / flows
		if step >= 2*(len(l.pipelines)-1) {
			return errors.New("there is nothing left to update: use more -datasets, or fewer or shorter rounds")
		}
		post("/source/update", "", update(fmt.Sprintf("%s/%d", datasetOf(n%l.open), l.ended+1+n%flows/l.open), l.pipelines[step/2], []string{"start", "finish"}[step%2]))
	case "upload":
		post("/source/upload", "Auth-Token: "+l.tokens[i%owners]+"\r\n", spec(ownerOf(i), fmt.Sprintf("d%d", i)))
	default:
		return fmt.Errorf("no such request: %s", kind)
	}
	return nil
}

// round is what was measured in one.
type round struct {
	cpu     time.Duration
	elapsed time.Duration
	times   []time.Duration // of each request
}

// run sends requests over a number of connections, on each for the time of a round or,
// where -each states it, a number of them.
func (l *load) run(ctx context.Context, s *measure.Process, kind string, conns int) (round, error) {
	all := make([][]time.Duration, conns)
	failed := make([]error, conns)
	dials := make([]net.Conn, conns)
	for i := range dials {
		var err error
		if dials[i], err = (&net.Dialer{}).DialContext(ctx, "tcp", s.Host()); err != nil {
			return round{}, err
		}
		defer func() { _ = dials[i].Close() }()
	}
	before, err := s.CPU()
	if err != nil {
		return round{}, err
	}
	begun := time.Now()
	end := begun.Add(l.round)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() { all[i], failed[i] = l.ask(ctx, dials[i], s.Host(), kind, l.until(end)) })
	}
	wg.Wait()
	r := round{elapsed: time.Since(begun)}
	after, err := s.CPU()
	r.cpu, r.times = after-before, slices.Concat(all...)
	return r, errors.Join(errors.Join(failed...), err)
}

// until returns what reports whether a connection that has sent a number of requests by
// a time sends no more in its round.
func (l *load) until(end time.Time) func(sent int, now time.Time) bool {
	if l.each > 0 {
		return func(sent int, _ time.Time) bool { return sent >= l.each }
	}
	return func(_ int, now time.Time) bool { return !now.Before(end) }
}

// ask sends one request after the other over a connection until its round is over.
func (l *load) ask(ctx context.Context, conn net.Conn, host, kind string, over func(sent int, now time.Time) bool) (times []time.Duration, err error) {
	in := bufio.NewReaderSize(conn, 64<<10)
	var out bytes.Buffer
	etag := ""
	for now := time.Now(); !over(len(times), now) && ctx.Err() == nil; {
		out.Reset()
		if err := l.request(&out, kind, host, etag); err != nil {
			return nil, err
		}
		begun := time.Now()
		if _, err := conn.Write(out.Bytes()); err != nil {
			return nil, err
		}
		status, tag, err := answer(in)
		if err != nil {
			return nil, err
		}
		if status != 200 && (status != 304 || etag == "") {
			return nil, fmt.Errorf("the answer is %d", status)
		}
		etag = tag
		now = time.Now()
		times = append(times, now.Sub(begun))
	}
	return times, ctx.Err()
}

// answer reads an answer and drops its body.
func answer(in *bufio.Reader) (status int, etag string, err error) {
	length, chunked := 0, false
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, "", err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if first {
			if len(line) < 12 {
				return 0, "", errors.New("no HTTP")
			}
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, "", err
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch string(name) {
		case "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, "", err
			}
		case "Transfer-Encoding":
			chunked = true
		case "Etag":
			etag = string(value)
		}
	}
	if status >= 400 {
		text, _ := in.Peek(min(length, 1000))
		return status, "", fmt.Errorf("the answer is %d: %s", status, text)
	}
	if !chunked {
		_, err := in.Discard(length)
		return status, etag, err
	}
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, "", err
		}
		size, err := strconv.ParseInt(string(bytes.TrimRight(line, "\r\n")), 16, 32)
		if err != nil {
			return 0, "", err
		}
		if _, err := io.CopyN(io.Discard, in, size+2); err != nil {
			return 0, "", err
		}
		if size == 0 {
			return status, etag, nil
		}
	}
}

// results are the rounds of one server.
type results struct {
	rounds []round
	times  []time.Duration
}

func (r *results) add(one round) {
	r.rounds = append(r.rounds, one)
	r.times = append(r.times, one.times...)
}

func (r *results) median(of func(round) float64) float64 {
	var list []float64
	for _, one := range r.rounds {
		list = append(list, of(one))
	}
	slices.Sort(list)
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}

// cpu is the CPU time of a request in microseconds.
func (r *results) cpu() float64 {
	return r.median(func(o round) float64 { return o.cpu.Seconds() * 1e6 / float64(max(len(o.times), 1)) })
}

// rate is requests in a second.
func (r *results) rate() float64 {
	return r.median(func(o round) float64 { return float64(len(o.times)) / o.elapsed.Seconds() })
}

// quantile is a time of a request in milliseconds.
func (r *results) quantile(q float64) float64 {
	if !slices.IsSorted(r.times) {
		slices.Sort(r.times)
	}
	if len(r.times) == 0 {
		return 0
	}
	return r.times[int(q*float64(len(r.times)-1))].Seconds() * 1000
}
