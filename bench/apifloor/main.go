// Command apifloor is the least that a server of the same API can do: net/http, the
// database driver, and the same SQL in the same transactions as specstore's, with
// nothing checked, planned or logged. It checks the token of an upload and adds River's
// job. Benchmarks measure specstore beside it; it serves nothing else.
package main

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/riverqueue/river"
)

// floor answers what the benchmark asks.
type floor struct {
	db  database
	key *rsa.PublicKey
}

// database does the SQL of the three requests.
type database interface {
	status(ctx context.Context, dataset string, revision int64) (*revision, error)
	update(ctx context.Context, e event) (state string, err error)
	upload(ctx context.Context, u upload) (number int64, err error)
	setting(ctx context.Context, name string) (string, error)
	close()
}

var errNone = errors.New("there is none")

// revision is what status reads.
type revision struct {
	id, datasetID, owner, name                           string
	number                                               int64
	state                                                string
	spec                                                 []byte
	findability, runner                                  string
	attempt, restarts                                    int64
	created, modified, started, finished, datasetCreated int64
	errors, logs, stats, folded                          []byte
	descriptor, planner, cause                           string
	pipelines                                            []pipeline
}

// readRevision reads what [sqlStatus] gives, of either driver's rows.
func readRevision(rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
},
) (*revision, error) {
	var v revision
	for rows.Next() {
		var one pipeline
		if err := rows.Scan(v.dest(&one)...); err != nil {
			return nil, err
		}
		v.pipelines = append(v.pipelines, one)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(v.pipelines) == 0 {
		return nil, errNone
	}
	return &v, nil
}

func (r *revision) dest(p *pipeline) []any {
	return append([]any{
		&r.id, &r.datasetID, &r.owner, &r.name, &r.number, &r.state, &r.spec, &r.findability, &r.runner, &r.attempt, &r.restarts,
		&r.created, &r.modified, &r.started, &r.finished, &r.datasetCreated, &r.errors, &r.logs, &r.stats, &r.folded, &r.descriptor, &r.planner, &r.cause,
	}, p.dest()...)
}

type pipeline struct {
	id, title, state, errors string
	errorCount               int64
	stats                    []byte
	position                 int64
	dependencies             string
	started, finished        int64
	progress, outputs        []byte
	reused, logs             string
}

func (p *pipeline) dest() []any {
	return []any{
		&p.id, &p.title, &p.state, &p.errors, &p.errorCount, &p.stats, &p.position, &p.dependencies, &p.started, &p.finished,
		&p.progress, &p.outputs, &p.reused, &p.logs,
	}
}

type event struct {
	Pipeline string          `json:"pipeline"`
	Event    string          `json:"event"`
	Success  bool            `json:"success"`
	Errors   []string        `json:"errors"`
	Log      []string        `json:"log"`
	Stats    json.RawMessage `json:"stats"`
}

func (e event) flow() string { return strings.Join(strings.SplitN(e.Pipeline, "/", 4)[:3], "/") }

type upload struct {
	owner, name, dataset string
	spec                 []byte
	internal             string // ID of the dataset, once it is known
}

// job has the name of specstore's, so that River does the same.
type job struct{}

// Kind implements [river.JobArgs].
func (job) Kind() string { return "run" }

type worker struct{ river.WorkerDefaults[job] }

// Work implements [river.Worker].
func (worker) Work(context.Context, *river.Job[job]) error { return nil }

func workers() *river.Workers {
	w := river.NewWorkers()
	river.AddWorker(w, worker{})
	return w
}

// planned are the pipelines of the benchmark's spec.
var planned = []struct {
	name, title string
	dependsOn   []string
}{
	{"/validation_report", "Validating package contents", nil},
	{"/elements_csv", "Creating CSV", nil},
	{"/elements_json", "Creating JSON", nil},
	{"/zip", "Creating ZIP", []string{"/validation_report", "/elements_csv", "/elements_json"}},
	{"/elements_csv_preview", "Generating views", []string{"/elements_csv"}},
	{"/elements", "Copying source data", nil},
	{"", "Creating Package", []string{"/validation_report", "/elements_csv", "/elements_json", "/zip", "/elements_csv_preview", "/elements"}},
}

func dependencies(flow string, names []string) any {
	if len(names) == 0 {
		return nil
	}
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = flow + n
	}
	b, _ := json.Marshal(list) //nolint:errchkjson // a list of text
	return string(b)
}

// text is JSON for "" as null.
func text(b []byte) []byte {
	if len(b) == 0 {
		return []byte("null")
	}
	return b
}

func stamp(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z")
}

// status prints the columns one after the other; JSON as it is kept.
func (f *floor) status(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.ParseInt(r.PathValue("revision"), 10, 64)
	if err != nil {
		http.Error(w, "no number", http.StatusNotFound)
		return
	}
	v, err := f.db.status(r.Context(), r.PathValue("owner")+"/"+r.PathValue("dataset"), number)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"id":%q,"spec_contents":%s,"modified":%q,"created":%q,"state":%q,"stats":%s,"pipelines":`,
		v.id, text(v.spec), stamp(v.modified), stamp(v.created), v.state, text(v.stats))
	if len(v.folded) > 0 {
		b.Write(v.folded)
	} else {
		b.WriteByte('{')
		for i, p := range v.pipelines {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `%q:{"title":%q,"status":%q,"stats":%s,"error_log":[]}`, p.id, p.title, p.state, text(p.stats))
		}
		b.WriteByte('}')
	}
	b.WriteString("}\n")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

func (f *floor) update(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var e event
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	e.Pipeline = strings.TrimPrefix(e.Pipeline, "./")
	var state string
	if err == nil {
		state, err = f.db.update(r.Context(), e)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprintf(w, `{"success":"pending","status":%q,"id":%q,"errors":[]}`+"\n", state, e.flow())
}

type claims struct {
	UserID  string `json:"userid"`
	Service string `json:"service"`
	jwt.RegisteredClaims
}

func (f *floor) upload(w http.ResponseWriter, r *http.Request) {
	var c claims
	if _, err := jwt.ParseWithClaims(r.Header.Get("Auth-Token"), &c, func(*jwt.Token) (any, error) { return f.key, nil },
		jwt.WithValidMethods([]string{"RS256"})); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(r.Body)
	var spec struct {
		Meta struct {
			OwnerID string `json:"ownerid"`
			Owner   string `json:"owner"`
			Dataset string `json:"dataset"`
		} `json:"meta"`
	}
	if err == nil {
		err = json.Unmarshal(body, &spec)
	}
	if err == nil && spec.Meta.OwnerID != c.UserID {
		err = errors.New("another owner's")
	}
	u := upload{owner: spec.Meta.OwnerID, name: spec.Meta.Owner, dataset: spec.Meta.OwnerID + "/" + spec.Meta.Dataset, spec: body}
	var number int64
	if err == nil {
		number, err = f.db.upload(r.Context(), u)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprintf(w, `{"success":true,"dataset_id":%q,"flow_id":"%s/%d","errors":[]}`+"\n", u.dataset, u.dataset, number)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "apifloor:", err)
		os.Exit(1)
	}
}

// run serves DATABASE_URL on a free port of this machine, whose address it prints,
// until it is told to stop or its standard input ends.
func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f := &floor{}
	var err error
	if path, ok := strings.CutPrefix(os.Getenv("DATABASE_URL"), "sqlite:///"); ok {
		f.db, err = openSQLite(ctx, path)
	} else {
		f.db, err = openPostgres(ctx, os.Getenv("DATABASE_URL"))
	}
	if err != nil {
		return err
	}
	defer f.db.close()
	private, err := f.db.setting(ctx, "issuer-key")
	if err != nil {
		return err
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(private))
	if err != nil {
		return err
	}
	f.key = &key.PublicKey
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /source/{owner}/{dataset}/{revision}", f.status)
	mux.HandleFunc("POST /source/update", f.update)
	mux.HandleFunc("POST /source/upload", f.upload)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	context.AfterFunc(ctx, func() { server.Close() })
	fmt.Fprintf(os.Stdout, "http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
