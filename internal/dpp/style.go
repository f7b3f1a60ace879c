package dpp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
)

// Style is how a service is spoken to.
type Style string

// The styles.
const (
	// Refresh is a service that pulls its pipelines and can be told to do so now.
	Refresh Style = "refresh"
	// Runner is dpp-runner: a flow is handed over as a pipeline-spec and asked for.
	Runner Style = "runner"
	// Poll is a service that pulls its pipelines, once a minute, and cannot be told.
	Poll Style = "poll"
	// Auto stands for the style that the service answers in.
	Auto Style = "auto"
)

// ParseStyle reads a style; an empty text is [Auto].
func ParseStyle(text string) (Style, error) {
	switch s := Style(text); s {
	case "":
		return Auto, nil
	case Refresh, Runner, Poll, Auto:
		return s, nil
	}
	return "", errs.New(errs.Invalid, "dpp.ParseStyle", "%q is none of auto, refresh, runner and poll", text)
}

// Style gives the style that was set, or finds it out. What it finds is asked for
// again each time: a service may be replaced by another version. It fails with
// Unavailable where the service does not answer.
func (c *Client) Style(ctx context.Context) (Style, error) {
	if c.style != Auto {
		return c.style, nil
	}
	if err := c.Refresh(ctx); err == nil {
		return Refresh, nil
	}
	if err := c.Probe(ctx); err != nil {
		return "", err
	}
	if run, err := c.Run(ctx, "none"); err == nil && run != nil {
		return Runner, nil
	}
	return Poll, nil
}

const (
	askTimeout = 10 * time.Second
	maxStatus  = 32 << 20 // bytes of an answer that holds a pipeline and its log
)

// Pipeline is how a pipeline stands at the service.
type Pipeline struct {
	State string // INIT, QUEUED, RUNNING, SUCCEEDED, FAILED, INVALID
	// Dirty says that it is to run, or run again: its last result is of other steps.
	Dirty    bool
	ErrorLog []string
	Log      string // lines of the last run
	Stats    json.RawMessage
	Hooks    []string // addresses of the details that it was last seen with
}

// Pipeline asks for a pipeline, with the ID as we have it. It fails with NotFound where
// the service does not know it, and with Unavailable where it does not answer.
func (c *Client) Pipeline(ctx context.Context, id string) (*Pipeline, error) {
	const op = "dpp.Pipeline"
	var answer struct {
		State    string          `json:"state"`
		Dirty    *bool           `json:"dirty"`
		ErrorLog []string        `json:"error_log"`
		Reason   *string         `json:"reason"`
		Stats    json.RawMessage `json:"stats"`
		Pipeline struct {
			Hooks []string `json:"hooks"`
		} `json:"pipeline"`
	}
	u := c.base.JoinPath("api", "raw", id)
	status, err := c.ask(ctx, http.MethodGet, u, nil, &answer)
	if status == http.StatusNotFound {
		return nil, errs.New(errs.NotFound, op, "the pipelines service does not know the pipeline %s", id)
	}
	if err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, op, "the pipelines service cannot be asked")
	}
	p := &Pipeline{State: answer.State, ErrorLog: answer.ErrorLog, Stats: answer.Stats, Hooks: answer.Pipeline.Hooks}
	p.Dirty = answer.Dirty == nil || *answer.Dirty
	if answer.Reason != nil {
		p.Log = *answer.Reason
	}
	return p, nil
}

// Run is how a run that was handed over to a dpp-runner stands, by pipeline. IDs begin
// with "./".
type Run struct {
	Progress map[string]Progress
	// Results are those of every pipeline, once all is over; nil before.
	Results []Result
}

// Progress is of a pipeline that was begun.
type Progress struct {
	Done    bool            `json:"done"`
	Success *bool           `json:"success"`
	Rows    *int64          `json:"rows"`
	Errors  []string        `json:"errors"`
	Stats   json.RawMessage `json:"stats"`
}

// Result is the end of a pipeline.
type Result struct {
	ID      string          `json:"pipeline_id"`
	Success bool            `json:"success"`
	Errors  []string        `json:"errors"`
	Stats   json.RawMessage `json:"stats"`
}

// Post hands a pipeline-spec over and gives the name of its run.
func (c *Client) Post(ctx context.Context, spec []byte) (uid string, err error) {
	var answer struct {
		UID string `json:"uid"`
	}
	if _, err := c.ask(ctx, http.MethodPost, c.base, spec, &answer); err != nil {
		return "", errs.Wrap(err, errs.Unavailable, "dpp.Post", "the pipelines service does not take the flow")
	}
	if answer.UID == "" {
		return "", errs.New(errs.Unavailable, "dpp.Post", "the pipelines service does not take the flow: it names no run")
	}
	return answer.UID, nil
}

// Run asks for a run. It fails with NotFound where the service does not know it, and
// with Unavailable where it does not answer as a dpp-runner does. Of the run "none",
// which there is not, it gives one without results where the service is a dpp-runner.
func (c *Client) Run(ctx context.Context, uid string) (*Run, error) {
	const op = "dpp.Run"
	u := *c.base
	u.RawQuery = "uid=" + url.QueryEscape(uid)
	var answer map[string]json.RawMessage
	if _, err := c.ask(ctx, http.MethodGet, &u, nil, &answer); err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, op, "the pipelines service cannot be asked")
	}
	progress, some := answer["progress"]
	results, more := answer["results"]
	if !some || !more {
		return nil, errs.New(errs.Unavailable, op, "the pipelines service does not answer as dpp-runner does")
	}
	r := &Run{}
	if string(progress) == "null" && uid != "none" {
		return nil, errs.New(errs.NotFound, op, "the pipelines service does not know the run any more")
	}
	if err := json.Unmarshal(progress, &r.Progress); err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, op, "the pipelines service gives a progress that cannot be read")
	}
	// Before the end the results are an empty object.
	if bytes.HasPrefix(bytes.TrimSpace(results), []byte("[")) {
		r.Results = []Result{}
		if err := json.Unmarshal(results, &r.Results); err != nil {
			return nil, errs.Wrap(err, errs.Unavailable, op, "the pipelines service gives results that cannot be read")
		}
	}
	return r, nil
}

// ask sends a request and reads its JSON.
func (c *Client) ask(ctx context.Context, method string, u *url.URL, body []byte, into any) (status int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, errors.New("no answer in time"))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/yaml")
	}
	res, err := c.client.Do(req)
	if err != nil {
		return 0, errors.New(strings.ReplaceAll(err.Error(), c.base.Host, "the service"))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, fmt.Errorf("it answers %s", res.Status)
	}
	// dpp-runner says of its JSON that it is HTML.
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err := json.NewDecoder(io.LimitReader(res.Body, maxStatus)).Decode(into); err != nil {
		return res.StatusCode, fmt.Errorf("it answers with %q: %w", kind, err)
	}
	return res.StatusCode, nil
}
