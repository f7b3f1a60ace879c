package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/jsondiff"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/registry"
)

// A page of a list begins behind the last line of the one before, so that what is
// added or taken away meanwhile neither repeats a line nor hides one.
const (
	pageSize = 50
	maxPage  = 1000
)

// number reads a query argument in plain decimal, from 1 to most; def where it is not
// given.
func number(q url.Values, name string, def, most int64) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != text || n < 1 || n > most {
		return 0, errs.New(errs.Invalid, "httpapi.number", "%s must be a number from 1 to %d", name, most)
	}
	return n, nil
}

// private marks an answer that is another one for somebody else.
func private(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Vary", varies)
}

type datasetLine struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	OwnerID     string     `json:"ownerid"`
	Owner       string     `json:"owner"`
	Findability string     `json:"findability"`
	Created     string     `json:"created"`
	Modified    string     `json:"modified"`
	Scheduled   *string    `json:"scheduled_for"`
	Schedule    *schedule  `json:"schedule"`
	Revision    int64      `json:"revision"`
	State       string     `json:"state"`
	Outcome     *string    `json:"outcome"`
	Links       *selfLinks `json:"links"`
}

// schedule is when a dataset is made again, and how that went.
type schedule struct {
	Spec     json.RawMessage `json:"spec"`
	Next     *string         `json:"next"`
	Paused   *string         `json:"paused"` // why
	Failures int64           `json:"failures"`
	Last     *scheduled      `json:"last"`
}

// scheduled is the due time that was taken last. Without a revision none could be made.
type scheduled struct {
	Due      string  `json:"due"`
	Revision *int64  `json:"revision"`
	State    *string `json:"state"`
}

// scheduleOf returns nil for a dataset without a schedule.
func scheduleOf(s registry.Schedule) *schedule {
	if s.Spec == nil {
		return nil
	}
	out := &schedule{Spec: s.Spec, Next: optional(s.Next), Failures: s.Failures}
	if s.Paused != "" {
		out.Paused = &s.Paused
	}
	if s.LastDue.IsZero() {
		return out
	}
	out.Last = &scheduled{Due: stamp(s.LastDue)}
	if s.LastRevision > 0 {
		state, _ := apiState(s.LastState)
		out.Last.Revision, out.Last.State = &s.LastRevision, &state
	}
	return out
}

type selfLinks struct {
	Self string `json:"self"`
}

func (a *api) datasets(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := number(q, "limit", pageSize, maxPage)
	if err != nil {
		return err
	}
	// One more than is shown tells whether there is another page.
	list, err := a.Service.Datasets(r.Context(), auth.FromRequest(r), r.PathValue("owner"), q.Get("after"), int(limit)+1)
	if err != nil {
		return err
	}
	out := struct {
		Datasets []datasetLine `json:"datasets"`
		Next     *string       `json:"next"`
	}{Datasets: []datasetLine{}}
	for i, d := range list {
		if i == int(limit) {
			out.Next = &out.Datasets[i-1].Name
			break
		}
		state, outcome := apiState(d.State)
		owner := d.Owner
		if owner == "" {
			owner = d.OwnerID
		}
		out.Datasets = append(out.Datasets, datasetLine{
			ID: d.ID, Name: strings.TrimPrefix(d.ID, d.OwnerID+"/"), OwnerID: d.OwnerID, Owner: owner, Findability: d.Findability,
			Created: stamp(d.Created), Modified: stamp(d.Updated), Scheduled: optional(d.Schedule.Next), Schedule: scheduleOf(d.Schedule), Revision: d.LastRevision,
			State: state, Outcome: outcome, Links: &selfLinks{a.base(r).source(d.ID)},
		})
	}
	private(w)
	return writeJSON(w, http.StatusOK, out)
}

type revisionLine struct {
	ID       string          `json:"id"`
	Revision int64           `json:"revision"`
	State    string          `json:"state"`
	Outcome  *string         `json:"outcome"`
	Created  string          `json:"created"`
	Modified string          `json:"modified"`
	Started  *string         `json:"started"`
	Finished *string         `json:"finished"`
	Stats    json.RawMessage `json:"stats"`
	Trigger  string          `json:"trigger"` // push or schedule
	Links    *selfLinks      `json:"links"`
}

func (a *api) revisions(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := number(q, "limit", pageSize, maxPage)
	if err != nil {
		return err
	}
	before, err := number(q, "after", 0, 1<<53)
	if err != nil {
		return err
	}
	dataset, _ := datasetOf(r)
	list, when, err := a.Service.Revisions(r.Context(), auth.FromRequest(r), dataset, before, int(limit)+1)
	if err != nil {
		return err
	}
	out := struct {
		Revisions []revisionLine `json:"revisions"`
		Next      *int64         `json:"next"`
		Schedule  *schedule      `json:"schedule"`
	}{Revisions: []revisionLine{}, Schedule: scheduleOf(*when)}
	for i, v := range list {
		if i == int(limit) {
			out.Next = &out.Revisions[i-1].Revision
			break
		}
		out.Revisions = append(out.Revisions, newRevisionLine(a.base(r), v))
	}
	private(w)
	return writeJSON(w, http.StatusOK, out)
}

func newRevisionLine(at base, v registry.RevisionInfo) revisionLine {
	state, outcome := apiState(v.State)
	return revisionLine{
		ID: v.ID, Revision: v.Number, State: state, Outcome: outcome, Created: stamp(v.Created), Modified: stamp(v.Modified),
		Started: optional(v.Started), Finished: optional(v.Finished), Stats: at.completed(v.ID, v.Stats), Trigger: v.Cause, Links: &selfLinks{at.source(v.ID)},
	}
}

// delete deletes a dataset, and erases it where that is asked for.
func (a *api) delete(w http.ResponseWriter, r *http.Request) error {
	dataset, _ := datasetOf(r)
	if q := r.URL.Query(); q.Has("erase") {
		if q.Get("erase") != "now" {
			return errs.New(errs.Invalid, "httpapi.delete", "erase must be now")
		}
		done, err := a.Service.Erase(r.Context(), auth.FromRequest(r), dataset)
		if err != nil {
			return err
		}
		status := http.StatusOK
		if !done {
			status = http.StatusAccepted
		}
		return writeJSON(w, status, map[string]any{"id": dataset, "erased": done})
	}
	if err := a.Service.Delete(r.Context(), auth.FromRequest(r), dataset); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// restore takes a dataset out of the trash.
func (a *api) restore(w http.ResponseWriter, r *http.Request) error {
	dataset, _ := datasetOf(r)
	if err := a.Service.Restore(r.Context(), auth.FromRequest(r), dataset); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"id": dataset, "restored": true})
}

// plan gives the pipelines of a revision as [[id, details], …].
func (a *api) plan(w http.ResponseWriter, r *http.Request) error {
	dataset, which := datasetOf(r)
	return a.compute(r.Context(), w, func(b *bytes.Buffer) error {
		pipelines, err := a.Service.Plan(r.Context(), auth.FromRequest(r), dataset, which)
		if err != nil {
			return err
		}
		private(w)
		return appendPlan(b, pipelines)
	})
}

const (
	maxPlan      = 32 << 20  // bytes of a plan that is answered
	maxComputing = 4         // answers that are computed from whole specs at the same time
	maxAnswers   = 128 << 20 // bytes of such answers, and of long statuses, that are being taken
)

// appendPlan writes pipelines as [[id, details], …]. What a spec says of its package
// stands in each of them, so a plan may be as long as their product.
func appendPlan(b *bytes.Buffer, pipelines []plan.Pipeline) error {
	b.WriteByte('[')
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	for i, p := range pipelines {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := e.Encode(p); err != nil {
			return err
		}
		if b.Len() > maxPlan {
			return errs.New(errs.TooLarge, "httpapi.plan", "the plan is longer than %d MiB; it can be had on the command line: specstore plan", maxPlan>>20)
		}
	}
	b.WriteString("]\n")
	return nil
}

// compute answers with JSON that takes much to compute: few are computed at the same time,
// and those that wait to be taken by their readers are bounded together.
func (a *api) compute(ctx context.Context, w http.ResponseWriter, do func(*bytes.Buffer) error) error {
	var b bytes.Buffer
	if err := a.computing.take(ctx, 1); err != nil {
		return err
	}
	err := func() error {
		defer a.computing.give(1)
		if err := do(&b); err != nil {
			return err
		}
		return a.answers.take(ctx, int64(b.Cap()))
	}()
	if err != nil {
		return err
	}
	defer a.answers.give(int64(b.Cap()))
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(b.Bytes()) // the reader has gone
	return nil
}

// pipelineLog gives the lines of a log as text.
func (a *api) pipelineLog(w http.ResponseWriter, r *http.Request) error {
	dataset, which := datasetOf(r)
	lines, err := a.Service.PipelineLog(r.Context(), auth.FromRequest(r), dataset, which, r.PathValue("pipeline"))
	if err != nil {
		return err
	}
	private(w)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, line := range lines {
		// Nobody is left to tell where the reader has gone.
		_, _ = io.WriteString(w, strings.ReplaceAll(line, "\n", " ")+"\n")
	}
	return nil
}

// report gives the validation report: as it is published, or with format=csv its errors
// as a table.
func (a *api) report(w http.ResponseWriter, r *http.Request) error {
	dataset, which := datasetOf(r)
	format := r.URL.Query().Get("format")
	if format != "" && format != "json" && format != "csv" {
		return errs.New(errs.Invalid, "httpapi.report", "format must be json or csv")
	}
	key, err := a.Service.Report(r.Context(), auth.FromRequest(r), dataset, which)
	if err != nil {
		return err
	}
	o, err := a.Packages.Open(r.Context(), key)
	if err != nil {
		return err
	}
	defer o.Close()
	private(w)
	if format != "csv" {
		w.Header().Set("Content-Type", fileTypes[".json"])
		http.ServeContent(&contentWriter{ResponseWriter: w}, r, "", o.ModTime(), o)
		return nil
	}
	w.Header().Set("Content-Type", fileTypes[".csv"])
	w.Header().Set("Content-Disposition", `attachment; filename="validation_report.csv"`)
	if r.Method == http.MethodHead {
		return nil
	}
	if err := engine.ErrorsOfReport(w, o); err != nil {
		// The answer has begun: its connection breaks off, so that nobody takes it for whole.
		a.Log.ErrorContext(r.Context(), "a report could not be read", "object", key, "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// changes are a list of differences and how many it lacks.
type changes struct {
	Changes []jsondiff.Change `json:"changes"`
	LeftOut int               `json:"left_out"`
}

func (a *api) diff(w http.ResponseWriter, r *http.Request) error {
	dataset, which := datasetOf(r)
	return a.compute(r.Context(), w, func(b *bytes.Buffer) error {
		d, err := a.Service.Diff(r.Context(), auth.FromRequest(r), dataset, which, r.PathValue("other"))
		if err != nil {
			return err
		}
		private(w)
		e := json.NewEncoder(b)
		e.SetEscapeHTML(false)
		return e.Encode(map[string]any{
			"from": d.From, "to": d.To,
			"spec": changes{d.Spec, d.SpecLeft}, "schema": changes{d.Schema, d.SchemaLeft}, "stats": changes{d.Stats, d.StatsLeft},
		})
	})
}
