package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// hostilePushes pushes specs and data that are made to be more work than any server has,
// beside honest ones that fail, until begin ends. Each must end; none may harm others.
func (u *user) hostilePushes(begin, ctx context.Context) {
	kinds := []struct {
		name string
		push func(ctx context.Context, dataset string)
	}{
		{"jsonschema", u.schemaBomb}, {"growth", u.growth}, {"patterns", u.patterns}, {"long-cell", u.longCell}, {"bad-cells", u.badCells},
	}
	for n := 0; begin.Err() == nil; n++ {
		kind := kinds[n%len(kinds)]
		u.counts.add("hostile " + kind.name)
		dataset := fmt.Sprintf("h%d-%s", n/len(kinds), kind.name)
		kind.push(ctx, dataset)
		u.erase(ctx, dataset)
	}
}

// schemaBomb has a JSON Schema whose evaluation takes 2^60 steps.
func (u *user) schemaBomb(ctx context.Context, dataset string) {
	defs := map[string]any{}
	for i := range 60 {
		next := map[string]any{"$ref": "#/$defs/s" + strconv.Itoa(i+1)}
		defs["s"+strconv.Itoa(i)] = map[string]any{"allOf": []any{next, next}}
	}
	defs["s60"] = map[string]any{"type": "object"}
	fields := []any{column("id", "integer", nil), column("o", "object", map[string]any{"jsonSchema": map[string]any{"$ref": "#/$defs/s0", "$defs": defs}})}
	u.push(ctx, dataset, []byte("id,o\r\n1,\"{\"\"a\"\":1}\"\r\n"), func(address string) map[string]any {
		return u.spec(dataset, address, fields, nil)
	}, true)
}

// growth joins a long cell with itself a thousand times, forty times.
func (u *user) growth(ctx context.Context, dataset string) {
	var sources, computed []any
	for range 1000 {
		sources = append(sources, "s")
	}
	for i := range 40 {
		computed = append(computed, map[string]any{"operation": "join", "target": "t" + strconv.Itoa(i), "source": sources, "with": ","})
	}
	steps := []any{map[string]any{"input": "t", "output": "t", "dpp": []any{
		map[string]any{"run": "add_computed_field", "parameters": map[string]any{"fields": computed}},
	}}}
	body := []byte("s\r\n" + strings.Repeat("x", 60_000) + "\r\n")
	u.push(ctx, dataset, body, func(address string) map[string]any {
		return u.spec(dataset, address, []any{column("s", "string", nil)}, steps)
	}, true)
}

// patterns has a schema whose patterns are large once they are compiled.
func (u *user) patterns(ctx context.Context, dataset string) {
	var fields []any
	var names, cells []string
	for i := range 500 {
		names, cells = append(names, "f"+strconv.Itoa(i)), append(cells, "a")
		fields = append(fields, column(names[i], "string", map[string]any{"pattern": `\w{900}`}))
	}
	body := []byte(strings.Join(names, ",") + "\r\n" + strings.Join(cells, ",") + "\r\n")
	u.push(ctx, dataset, body, func(address string) map[string]any { return u.spec(dataset, address, fields, nil) }, true)
}

// longCell has cells of 4 MB.
func (u *user) longCell(ctx context.Context, dataset string) {
	cell := bytes.Repeat([]byte{byte('a' + u.random.IntN(26))}, 4<<20)
	body := append([]byte("a,b\r\n"), bytes.Join([][]byte{cell, cell}, []byte(","))...)
	u.push(ctx, dataset, append(body, "\r\n"...), func(address string) map[string]any {
		return u.spec(dataset, address, []any{column("a", "string", nil), column("b", "integer", nil)}, nil)
	}, true)
}

// badCells is wrong in every row.
func (u *user) badCells(ctx context.Context, dataset string) {
	var b bytes.Buffer
	b.WriteString("id,day\r\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "x%d,%d\r\n", i, u.random.IntN(1000))
	}
	u.push(ctx, dataset, b.Bytes(), func(address string) map[string]any {
		return u.spec(dataset, address, []any{column("id", "integer", nil), column("day", "date", nil)}, nil)
	}, true)
}

// strangers sends what costs memory and connections, without a token, until begin ends.
func (s *soak) strangers(begin context.Context) {
	bombs := []struct{ path, kind, body string }{
		{"/source/plan", "application/yaml", aliases()},
		{"/source/upload", "application/json", "[" + strings.Repeat("{},", 4<<20) + "{}]"},
		{"/source/update", "application/json", "[" + strings.Repeat("[],", 1<<20) + "[]]"},
	}
	for n := 0; begin.Err() == nil; n++ {
		for _, p := range s.servers() {
			if !p.answering(time.Now()) {
				continue
			}
			bomb := bombs[n%len(bombs)]
			s.counts.add("strangers' bodies")
			send(begin, p.url+bomb.path, bomb.kind, bomb.body)
			stalled(begin, p.url, 20)
		}
		pause(begin, 3*time.Second)
	}
}

// aliases is a YAML document of a few kilobytes whose aliases stand for 10^9 values.
func aliases() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return b.String()
}

// send sends a body; what the answer is does not matter.
func send(ctx context.Context, url, kind, body string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", kind)
	res, err := plain.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
	res.Body.Close()
}

// stalled opens connections that promise a body and send a byte of it, for a time.
func stalled(ctx context.Context, url string, n int) {
	host := strings.TrimPrefix(url, "http://")
	var open []net.Conn
	for range n {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", host)
		if err != nil {
			break
		}
		open = append(open, c)
		fmt.Fprintf(c, "POST /source/upload HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{", host)
	}
	pause(ctx, time.Second)
	for _, c := range open {
		_ = c.Close() // the server may have closed it
	}
}
