package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The states of a revision and of a pipeline. A cancelled one is FAILED here,
// with the outcome [Cancelled].
const (
	Queued     = "QUEUED"
	InProgress = "INPROGRESS"
	Succeeded  = "SUCCEEDED"
	Failed     = "FAILED"

	Cancelled = "cancelled"
)

// Status is how a revision stands.
type Status struct {
	ID           string              `json:"id"` // flow ID: owner/dataset/number
	SpecContents json.RawMessage     `json:"spec_contents"`
	State        string              `json:"state"`
	Outcome      string              `json:"outcome"`
	Created      time.Time           `json:"created"`  // when it was accepted
	Modified     time.Time           `json:"modified"` // last change of state
	Attempt      int                 `json:"attempt"`
	Trigger      string              `json:"trigger"`   // what made the revision: push or schedule
	Logs         []string            `json:"logs"`      // the last lines
	ErrorLog     []string            `json:"error_log"` // root failures first
	Stats        *Stats              `json:"stats"`     // nil until the end
	Pipelines    map[string]Pipeline `json:"pipelines"` // by pipeline ID
	Certified    bool                `json:"certified"`
	Links        Links               `json:"links"`

	// Raw is the whole answer as it came.
	Raw json.RawMessage `json:"-"`
}

// Ended reports whether the flow of the revision is over.
func (s *Status) Ended() bool { return s.State == Succeeded || s.State == Failed }

// Stats are the figures of a published package.
type Stats struct {
	Bytes       int64  `json:"bytes"`
	Rows        int64  `json:"count_of_rows"`
	DatasetName string `json:"dataset_name"`
	Hash        string `json:"hash"`
}

// Schedule is when further revisions of a dataset are made, and how that went.
type Schedule struct {
	Spec     json.RawMessage `json:"spec"`     // as the Flow-Spec has it
	Next     *time.Time      `json:"next"`     // nil where it is paused
	Paused   string          `json:"paused"`   // why; empty where it is not
	Failures int             `json:"failures"` // in a row
	Last     *struct {
		Due      time.Time `json:"due"`
		Revision int64     `json:"revision"` // 0 where none could be made
		State    string    `json:"state"`
	} `json:"last"` // the due time that was taken last; nil before the first
}

// Schedule returns the schedule of a dataset, nil where it has none. A dataset that does not
// exist or may not be seen is an [*Error] with status 404.
func (c *Client) Schedule(ctx context.Context, datasetID string) (*Schedule, error) {
	owner, name, err := dataset(datasetID)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Schedule *Schedule `json:"schedule"`
	}
	_, err = c.json(ctx, call{
		method: http.MethodGet, path: []string{"source", owner, name}, query: url.Values{"limit": {"1"}}, repeats: true,
	}, &answer)
	return answer.Schedule, err
}

// Pipeline is how a pipeline of a revision stands.
type Pipeline struct {
	Title    string          `json:"title"`
	Status   string          `json:"status"` // a state
	Stats    json.RawMessage `json:"stats"`  // as the pipeline reported them; nil or null until then
	ErrorLog []string        `json:"error_log"`
	Started  *time.Time      `json:"started"`
	Finished *time.Time      `json:"finished"`
	Progress *Progress       `json:"progress"` // nil unless it runs
	Reused   string          `json:"reused"`   // flow ID of the revision whose outputs serve; else empty
}

// Progress is how far a running pipeline is.
type Progress struct {
	Rows       int64 `json:"rows"`
	Bytes      int64 `json:"bytes"`
	TotalBytes int64 `json:"total_bytes"` // 0 where it is not known
}

// Links are addresses that belong to a revision.
type Links struct {
	Self    string `json:"self"`
	Events  string `json:"events"`
	Page    string `json:"page"`
	Package string `json:"package"`
}

// Status gives how a revision of a dataset stands. The dataset ID is "owner
// ID/name", rev a number, "latest" or "successful"; empty: "latest". A revision
// that does not exist or may not be seen is an [*Error] with status 404.
func (c *Client) Status(ctx context.Context, datasetID, rev string) (*Status, error) {
	path, err := revision(datasetID, rev)
	if err != nil {
		return nil, err
	}
	status := new(Status)
	if status.Raw, err = c.json(ctx, call{method: http.MethodGet, path: path, repeats: true}, status); err != nil {
		return nil, err
	}
	return status, nil
}

func revision(datasetID, rev string, more ...string) ([]string, error) {
	owner, name, err := dataset(datasetID)
	if err != nil {
		return nil, err
	}
	if rev == "" {
		rev = "latest"
	}
	return append([]string{"source", owner, name, rev}, more...), nil
}

// UploadResult is an accepted upload.
type UploadResult struct {
	DatasetID string // owner ID/name
	FlowID    string // owner ID/name/number
}

// Revision gives the number at the end of the flow ID.
func (u *UploadResult) Revision() string {
	return u.FlowID[strings.LastIndexByte(u.FlowID, '/')+1:]
}

// Upload sends a Flow-Spec, given as its JSON text ([]byte, string or
// [json.RawMessage]) or as any value that encodes to it. The token must be one
// for the service "source", see [Client.Authorize]. A refusal is an [*Error]
// with the list of errors.
//
// Each upload is a new revision. Repeats with one idempotency key, a text that the
// caller chooses and uses again only for the same spec, are one revision. Without a
// key the call makes one of its own, since it repeats the request where the network
// fails or the server does not know whether it stored the revision.
func (c *Client) Upload(ctx context.Context, spec any, idempotencyKey string) (*UploadResult, error) {
	body, err := jsonText(spec)
	if err != nil {
		return nil, err
	}
	if idempotencyKey == "" {
		idempotencyKey = rand.Text()
	}
	if strings.ContainsFunc(idempotencyKey, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return nil, errors.New("client: an idempotency key holds printable ASCII letters only")
	}
	request := call{
		method: http.MethodPost, path: []string{"source", "upload"}, body: body,
		header: http.Header{"Idempotency-Key": {idempotencyKey}}, repeats: true,
	}
	var answer struct {
		Success   bool     `json:"success"`
		DatasetID string   `json:"dataset_id"`
		FlowID    string   `json:"flow_id"`
		Errors    []string `json:"errors"`
	}
	if _, err := c.json(ctx, request, &answer); err != nil {
		return nil, err
	}
	// The original refuses with status 200.
	if !answer.Success || answer.FlowID == "" {
		refusal := &Error{Status: http.StatusOK}
		for _, line := range answer.Errors {
			refusal.Errors = append(refusal.Errors, clean(line))
		}
		if refusal.Message = strings.Join(refusal.Errors, "\n"); refusal.Message == "" {
			refusal.Message = "the upload was refused"
		}
		return nil, refusal
	}
	return &UploadResult{DatasetID: answer.DatasetID, FlowID: answer.FlowID}, nil
}

func jsonText(spec any) ([]byte, error) {
	switch spec := spec.(type) {
	case []byte:
		return spec, nil
	case string:
		return []byte(spec), nil
	case json.RawMessage:
		return spec, nil
	}
	return json.Marshal(spec)
}

// Cancel ends the flow of a revision. One that has ended is an [*Error] with
// status 409.
func (c *Client) Cancel(ctx context.Context, datasetID, rev string) error {
	return c.act(ctx, http.MethodPost, datasetID, rev, "cancel")
}

// Retry makes a new attempt of a revision that failed or was cancelled.
func (c *Client) Retry(ctx context.Context, datasetID, rev string) error {
	return c.act(ctx, http.MethodPost, datasetID, rev, "retry")
}

func (c *Client) act(ctx context.Context, method, datasetID, rev, verb string) error {
	path, err := revision(datasetID, rev, verb)
	if err != nil {
		return err
	}
	_, err = c.json(ctx, call{method: method, path: path}, nil)
	return err
}

// Delete deletes a dataset with all its revisions. It lies in the trash for a time.
func (c *Client) Delete(ctx context.Context, datasetID string) error {
	owner, name, err := dataset(datasetID)
	if err != nil {
		return err
	}
	_, err = c.json(ctx, call{method: http.MethodDelete, path: []string{"source", owner, name}}, nil)
	return err
}

// Erase deletes a dataset, where it is not deleted yet, and erases all that lies in the
// trash under its name. done is false where the server goes on with that.
func (c *Client) Erase(ctx context.Context, datasetID string) (done bool, err error) {
	owner, name, err := dataset(datasetID)
	if err != nil {
		return false, err
	}
	var answer struct {
		Erased bool `json:"erased"`
	}
	_, err = c.json(ctx, call{method: http.MethodDelete, path: []string{"source", owner, name}, query: url.Values{"erase": {"now"}}}, &answer)
	return answer.Erased, err
}

// Restore takes a dataset out of the trash. One whose name was pushed again is an
// [*Error] with status 409.
func (c *Client) Restore(ctx context.Context, datasetID string) error {
	owner, name, err := dataset(datasetID)
	if err != nil {
		return err
	}
	_, err = c.json(ctx, call{method: http.MethodPost, path: []string{"source", owner, name, "restore"}}, nil)
	return err
}

// Log opens the log of a pipeline, NDJSON lines. The pipeline is named by the
// last part of its ID. The caller closes it.
func (c *Client) Log(ctx context.Context, datasetID, rev, pipeline string) (io.ReadCloser, error) {
	path, err := revision(datasetID, rev, "pipelines", pipeline, "log")
	if err != nil {
		return nil, err
	}
	answer, err := c.send(ctx, call{
		method: http.MethodGet, path: path, repeats: true,
		header: http.Header{"Accept": {"application/x-ndjson, */*"}},
	})
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// User is whom the token of a client stands for.
type User struct {
	ID        string `json:"id"` // owner ID
	Username  string `json:"username"`
	Name      string `json:"name"`
	Email     string `json:"email"`
	AvatarURL string `json:"avatar_url"`
}

// Check asks whom the token stands for. A token that the server does not take
// is an [*Error] with status 401.
func (c *Client) Check(ctx context.Context) (*User, error) {
	var answer struct {
		Authenticated bool  `json:"authenticated"`
		Profile       *User `json:"profile"`
	}
	_, err := c.json(ctx, call{method: http.MethodGet, path: []string{"auth", "check"}, repeats: true}, &answer)
	if err != nil {
		return nil, err
	}
	if !answer.Authenticated || answer.Profile == nil || answer.Profile.ID == "" {
		return nil, &Error{Status: http.StatusUnauthorized, Message: "the server does not know this token"}
	}
	return answer.Profile, nil
}

// Authorize swaps the user token of the client for one of a service: "source"
// for specs, "rawstore" for files, "frontend" for reading. It is good for some
// minutes; see [Client.WithToken].
func (c *Client) Authorize(ctx context.Context, service string) (string, error) {
	var answer struct {
		Token string `json:"token"`
	}
	_, err := c.json(ctx, call{
		method: http.MethodGet, path: []string{"auth", "authorize"},
		query: url.Values{"service": {service}}, repeats: true,
	}, &answer)
	if err != nil {
		return "", err
	}
	if answer.Token == "" {
		return "", &Error{Status: http.StatusUnauthorized, Message: "the server gives no token for the service " + service}
	}
	return answer.Token, nil
}
