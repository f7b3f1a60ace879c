package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/client"
)

// user pushes datasets of one owner, one after the other.
type user struct {
	*soak
	owner  string
	token  string // for the service source
	random *rand.Rand
	raw    []*client.Client // one for each server
	source []*client.Client
	pushes int
}

// any returns clients of a server, which may be down.
func (u *user) any() (raw, source *client.Client) {
	i := u.random.IntN(len(u.raw))
	return u.raw[i], u.source[i]
}

// try does something until it succeeds, is refused for good, or ctx ends.
func (u *user) try(ctx context.Context, do func(ctx context.Context, raw, source *client.Client) error) error {
	for {
		raw, source := u.any()
		once, cancel := context.WithTimeout(ctx, requestTime)
		err := do(once, raw, source)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		switch code := client.StatusCode(err); {
		case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code == 0, code >= 500:
		default:
			return err
		}
		pause(ctx, 100*time.Millisecond+time.Duration(u.random.Int64N(int64(400*time.Millisecond))))
	}
}

// table is a CSV as the service writes it, so that what is published has the same bytes.
func table(random *rand.Rand, rows int) []byte {
	var b bytes.Buffer
	b.WriteString("id,name,price\r\n")
	for i := range rows {
		fmt.Fprintf(&b, "%d,item %d,%d.%02d\r\n", i, random.IntN(1_000_000), random.IntN(1000), 10+random.IntN(90))
	}
	return b.Bytes()
}

// push sends a table under a key and a spec, and follows its flow to the end.
func (u *user) push(ctx context.Context, dataset string, body []byte, spec func(address string) map[string]any, hostile bool) {
	u.pushes++
	key := fmt.Sprintf("%s-%d", u.owner, u.pushes)
	id := u.owner + "/" + dataset
	u.history.add(record{Kind: pushed, Dataset: id, Key: key, Hostile: hostile})
	u.counts.add("pushes")
	var accepted *client.UploadResult
	err := u.try(ctx, func(ctx context.Context, raw, source *client.Client) error {
		address, err := u.upload(ctx, raw, body)
		if err != nil {
			return err
		}
		accepted, err = source.Upload(ctx, spec(address), key)
		return err
	})
	if err != nil {
		u.history.add(record{Kind: refused, Dataset: id, Key: key, Hostile: hostile, Text: err.Error()})
		return
	}
	u.history.add(record{Kind: acked, Dataset: id, Key: key, Flow: accepted.FlowID})
	ended := u.follow(ctx, accepted)
	pause(ctx, u.rest)
	if ended == nil || ended.State != client.Succeeded || hostile {
		return
	}
	u.counts.add("packages read")
	u.read(ctx, ended, body)
	u.mu.Lock()
	u.good = append(u.good, publication{id, accepted.Revision(), accepted.FlowID, body})
	u.mu.Unlock()
}

// upload sends a file where it is not there and returns its address.
func (u *user) upload(ctx context.Context, raw *client.Client, body []byte) (string, error) {
	described, err := client.Describe("t.csv", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	grants, err := raw.AuthorizeRaw(ctx, u.owner, map[string]client.File{"t.csv": described})
	if err != nil {
		return "", err
	}
	grant := grants["t.csv"]
	if !grant.Exists {
		// The address is of the server that is known to all; each of them takes the file.
		if err := raw.UploadRaw(ctx, u.here(grant), "t.csv", bytes.NewReader(body), int64(len(body))); err != nil {
			return "", err
		}
	}
	return grant.ObjectURL(), nil
}

// here returns a grant with the address of a server that may be up.
func (u *user) here(grant client.RawUpload) client.RawUpload {
	for _, p := range u.servers() {
		if p.answering(time.Now()) {
			if _, path, ok := strings.Cut(strings.TrimPrefix(grant.URL, "http://"), "/"); ok {
				grant.URL = p.url + "/" + path
			}
			break
		}
	}
	return grant
}

// follow asks how a flow stands until it has ended. It returns nil where ctx ended first,
// or where the flow is not there.
func (u *user) follow(ctx context.Context, accepted *client.UploadResult) *client.Status {
	for ctx.Err() == nil {
		var st *client.Status
		err := u.try(ctx, func(ctx context.Context, _, source *client.Client) (err error) {
			st, err = source.Status(ctx, accepted.DatasetID, accepted.Revision())
			return err
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			u.history.add(record{Kind: seen, Flow: accepted.FlowID, Bad: err.Error()})
			return nil
		}
		u.history.add(record{Kind: seen, Flow: accepted.FlowID, State: st.State, Attempt: st.Attempt, Text: strings.Join(st.ErrorLog[:min(2, len(st.ErrorLog))], "; ")})
		if st.Ended() {
			return st
		}
		pause(ctx, 200*time.Millisecond)
	}
	return nil
}

// read reads the package of a flow that succeeded and holds its table against what was
// pushed.
func (u *user) read(ctx context.Context, st *client.Status, want []byte) {
	sum := sha256.Sum256(want)
	bad := ""
	err := u.try(ctx, func(ctx context.Context, _, _ *client.Client) error {
		bad = ""
		descriptor, err := u.get(ctx, st.Links.Package)
		if err != nil {
			return err
		}
		list, broken := resourcesOf(descriptor)
		if bad = broken; bad != "" {
			return nil
		}
		bad = "the package has no CSV"
		for _, r := range list {
			if r.Datahub.Type != "derived/csv" {
				continue
			}
			body, err := u.get(ctx, r.Path)
			if err != nil {
				return err
			}
			if got := sha256.Sum256(body); got != sum || r.Hash != "sha256:"+hex.EncodeToString(sum[:]) {
				bad = fmt.Sprintf("%s has %d bytes with the hash %x, want %d bytes with %x", r.Name, len(body), got[:4], len(want), sum[:4])
				return nil
			}
			bad = ""
		}
		return nil
	})
	if ctx.Err() != nil || u.isGone(st.ID[:strings.LastIndexByte(st.ID, '/')]) {
		return
	}
	if err != nil {
		bad = err.Error()
	}
	u.history.add(record{Kind: published, Flow: st.ID, Bad: bad})
}

// resource is one of a package.
type resource struct {
	Name, Path, Hash string
	Datahub          struct{ Type string }
}

// resourcesOf reads a descriptor. broken says what is wrong with it.
func resourcesOf(descriptor []byte) (list []resource, broken string) {
	var d struct{ Resources []resource }
	if err := json.Unmarshal(descriptor, &d); err != nil {
		return nil, "the descriptor is not JSON: " + err.Error()
	}
	return d.Resources, ""
}

// get reads an address of the public server from any server that is up.
func (u *user) get(ctx context.Context, address string) ([]byte, error) {
	_, path, _ := strings.Cut(strings.TrimPrefix(address, "http://"), "/")
	servers := u.servers()
	return fetch(ctx, servers[u.random.IntN(len(servers))].url+"/"+path)
}

var plain = &http.Client{Timeout: requestTime}

// fetch reads an address. An answer that is not 200 is a [*client.Error].
func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := plain.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, &client.Error{Status: res.StatusCode, Message: url}
	}
	return body, nil
}

// spec is a Flow-Spec of one table.
func (u *user) spec(dataset, address string, fields []any, processing []any) map[string]any {
	spec := map[string]any{
		"meta": map[string]any{"version": 1, "ownerid": u.owner, "dataset": dataset, "findability": "published"},
		"inputs": []any{map[string]any{"kind": "datapackage", "parameters": map[string]any{
			"resource-mapping": map[string]any{"t.csv": address},
			"descriptor": map[string]any{"name": dataset, "resources": []any{
				map[string]any{"name": "t", "path": "t.csv", "schema": map[string]any{"fields": fields}},
			}},
		}}},
	}
	if processing != nil {
		spec["processing"] = processing
	}
	return spec
}

func column(name, kind string, constraints map[string]any) map[string]any {
	f := map[string]any{"name": name, "type": kind}
	if constraints != nil {
		f["constraints"] = constraints
	}
	return f
}

const (
	datasetsOf = 4   // of an owner, at one time
	blockOf    = 100 // pushes until an owner begins with new datasets
)

// goodPushes pushes honest datasets until begin ends, and follows the last to its end.
func (u *user) goodPushes(begin, ctx context.Context) {
	fields := []any{column("id", "integer", nil), column("name", "string", nil), column("price", "number", nil)}
	for n := 0; begin.Err() == nil; n++ {
		// Old datasets go, so that the disk does not fill by itself.
		if n > 0 && n%blockOf == 0 {
			for i := range datasetsOf {
				u.erase(ctx, fmt.Sprintf("d%d-%d", n/blockOf-1, i))
			}
		}
		dataset := fmt.Sprintf("d%d-%d", n/blockOf, u.random.IntN(datasetsOf))
		rows := 10 + u.random.IntN(3000)
		if u.random.IntN(20) == 0 {
			rows = 100_000
		}
		u.push(ctx, dataset, table(u.random, rows), func(address string) map[string]any {
			return u.spec(dataset, address, fields, nil)
		}, false)
		u.readEarlier(ctx)
	}
}

// publication is what a good push published.
type publication struct {
	dataset, revision, flow string
	body                    []byte
}

// readEarlier looks at something that was published some time ago.
func (u *user) readEarlier(ctx context.Context) {
	u.mu.Lock()
	var p publication
	if len(u.good) > 0 {
		p = u.good[u.random.IntN(len(u.good))]
	}
	u.mu.Unlock()
	if p.flow == "" {
		return
	}
	var st *client.Status
	err := u.try(ctx, func(ctx context.Context, _, source *client.Client) (err error) {
		st, err = source.Status(ctx, p.dataset, p.revision)
		return err
	})
	if ctx.Err() != nil || u.isGone(p.dataset) {
		return
	}
	if err != nil {
		u.history.add(record{Kind: seen, Flow: p.flow, Bad: err.Error()})
		return
	}
	u.history.add(record{Kind: seen, Flow: p.flow, State: st.State, Attempt: st.Attempt})
	u.counts.add("packages read again")
	u.read(ctx, st, p.body)
}

// erasures pushes datasets, erases them and looks whether their files are gone.
func (u *user) erasures(begin, ctx context.Context) {
	fields := []any{column("id", "integer", nil), column("name", "string", nil), column("price", "number", nil)}
	for n := 0; begin.Err() == nil; n++ {
		dataset := fmt.Sprintf("e%d", n)
		before := len(u.goodOf(u.owner + "/" + dataset))
		u.push(ctx, dataset, table(u.random, 50), func(address string) map[string]any {
			return u.spec(dataset, address, fields, nil)
		}, false)
		if ctx.Err() != nil {
			return
		}
		if len(u.goodOf(u.owner+"/"+dataset)) > before { // else the disk was full
			u.erase(ctx, dataset)
		}
		pause(begin, 5*time.Second)
	}
}

// isGone reports whether the erasure of a dataset has begun.
func (u *user) isGone(dataset string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.gone[dataset]
}

// goodOf returns what was published of a dataset.
func (u *user) goodOf(dataset string) (list []publication) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range u.good {
		if p.dataset == dataset {
			list = append(list, p)
		}
	}
	return list
}

// erase erases a dataset, and looks whether its files are gone.
func (u *user) erase(ctx context.Context, dataset string) {
	id := u.owner + "/" + dataset
	files := u.filesOf(ctx, id)
	u.mu.Lock()
	u.good = slices.DeleteFunc(u.good, func(p publication) bool { return p.dataset == id })
	u.gone[id] = true
	u.mu.Unlock()
	err := u.try(ctx, func(ctx context.Context, _, _ *client.Client) error {
		err := u.remove(ctx, id)
		if client.StatusCode(err) == http.StatusNotFound {
			return nil // it is not there, or the answer to an earlier try was lost
		}
		return err
	})
	bad := ""
	if err != nil {
		bad = "it was not erased: " + err.Error()
	}
	for _, file := range files {
		err := u.try(ctx, func(ctx context.Context, _, _ *client.Client) error { _, err := u.get(ctx, file); return err })
		if client.StatusCode(err) != http.StatusNotFound {
			bad = fmt.Sprintf("%s answers %v after the erasure", file, err)
		}
	}
	if ctx.Err() == nil {
		u.counts.add("erasures")
		u.history.add(record{Kind: erased, Dataset: id, Bad: bad})
	}
}

// filesOf returns the addresses of the files that a dataset has published last.
func (u *user) filesOf(ctx context.Context, id string) (files []string) {
	_ = u.try(ctx, func(ctx context.Context, _, source *client.Client) error {
		st, err := source.Status(ctx, id, "successful")
		if err != nil {
			return err // a 404 where it has none
		}
		descriptor, err := u.get(ctx, st.Links.Package)
		if err != nil {
			return err
		}
		list, _ := resourcesOf(descriptor)
		files = []string{st.Links.Package}
		for _, r := range list {
			files = append(files, r.Path)
		}
		return nil
	})
	return files
}

func (u *user) remove(ctx context.Context, id string) error {
	servers := u.servers()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, servers[u.random.IntN(len(servers))].url+"/source/"+id+"?erase=now", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Auth-Token", u.token)
	res, err := plain.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if res.StatusCode/100 != 2 {
		return &client.Error{Status: res.StatusCode, Message: string(text)}
	}
	return nil
}
