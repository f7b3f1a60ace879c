package httpapi

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/weburl"
)

// uploadAnswer is what a client reads of an upload.
type uploadAnswer struct {
	Success   bool     `json:"success"`
	DatasetID *string  `json:"dataset_id"`
	FlowID    *string  `json:"flow_id"`
	Errors    []string `json:"errors"`
	Notes     []string `json:"notes,omitempty"`
	Error     *message `json:"error,omitempty"`
}

type message struct {
	Message string `json:"message"`
}

// refusalError is a refusal in the form that clients of the Spec Store read.
type refusalError struct{ err error }

func (u *refusalError) Error() string { return u.err.Error() }
func (u *refusalError) Unwrap() error { return u.err }

func (u *refusalError) write(w http.ResponseWriter, status int) {
	detail := errs.Detail(u.err)
	_ = writeJSON(w, status, uploadAnswer{Errors: strings.Split(detail, "\n"), Error: &message{detail}})
}

const emptyContents = "Received empty contents (make sure your content-type is correct)"

// isEmpty reports whether a JSON text says nothing: null, {} or nothing at all.
func isEmpty(text []byte) bool {
	inner, ok := bytes.CutPrefix(text, []byte("{"))
	return len(text) == 0 || string(text) == "null" || ok && string(bytes.TrimSpace(inner)) == "}"
}

// specOf reads the body of an upload.
func (a *api) specOf(w http.ResponseWriter, r *http.Request) (*held, error) {
	spec, err := a.jsonBody(w, r, MaxSpec, a.bearer(r))
	if err == nil && isEmpty(spec.text) {
		spec.release()
		err = errs.New(errs.Invalid, "httpapi.upload", emptyContents)
	}
	if err != nil {
		return nil, &refusalError{err}
	}
	return spec, nil
}

// isYAML reports whether a content type is one of YAML: application/yaml (RFC 9512), or
// one of those that were in use before.
func isYAML(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && slices.Contains([]string{"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"}, t)
}

// yamlSpecOf reads a spec in YAML as the JSON that it stands for.
func (a *api) yamlSpecOf(w http.ResponseWriter, r *http.Request) (_ *held, err error) {
	body, err := a.read(w, r, MaxSpec, a.bearer(r), yamlSize)
	if err != nil {
		return nil, &refusalError{err}
	}
	defer func() {
		if err != nil {
			body.release()
			err = &refusalError{err}
		}
	}()
	spec, err := flowspec.ParseYAML(body.text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // what it takes was counted without
	if err := e.Encode(spec); err != nil {
		return nil, err
	}
	body.text = bytes.TrimSpace(b.Bytes())
	return body, body.parse(r.Context(), int64(len(body.text))+jsonSize(body.text))
}

// dryRun answers an upload with its pipelines, or with its refusal.
func (a *api) dryRun(w http.ResponseWriter, r *http.Request) error {
	read := a.specOf
	if isYAML(r.Header.Get("Content-Type")) {
		read = a.yamlSpecOf
	}
	spec, err := read(w, r)
	if err != nil {
		return err
	}
	defer spec.release()
	err = a.compute(r.Context(), w, func(b *bytes.Buffer) error {
		pipelines, err := a.Service.DryRun(r.Context(), auth.FromRequest(r), spec.text)
		if err != nil {
			return err
		}
		return appendPlan(b, pipelines)
	})
	if err != nil {
		return &refusalError{err}
	}
	return nil
}

func (a *api) upload(w http.ResponseWriter, r *http.Request) error {
	spec, err := a.specOf(w, r)
	if err != nil {
		return err
	}
	defer spec.release()
	rev, err := a.Service.Upload(r.Context(), auth.FromRequest(r), spec.text, r.Header.Get("Idempotency-Key"))
	if err != nil {
		return &refusalError{err}
	}
	return writeJSON(w, http.StatusOK, uploadAnswer{Success: true, DatasetID: &rev.DatasetID, FlowID: &rev.ID, Errors: []string{}, Notes: rev.Notes})
}

const maxUpdate = 4 << 20

// updater is the caller of an update. A token of a flow cannot be judged before the flow
// is known, which the body says; what is long must say it at its beginning.
func (a *api) updater(r *http.Request) caller {
	unauthorized := errs.New(errs.Unauthorized, "httpapi.update", "the update carries no token of its flow")
	if r.URL.Query().Has("token") {
		return caller{unauthorized, func(begin []byte) bool {
			pipeline := pipelineOf(begin)
			return pipeline != "" && a.mayUpdate(r, registry.FlowOf(registry.Unalias(pipeline)))
		}}
	}
	if !a.mayUpdate(r, "") {
		return caller{refusal: unauthorized}
	}
	return caller{}
}

// pipelineOf finds the pipeline in the beginning of an update; empty where it is not
// there.
func pipelineOf(begin []byte) string {
	d := jsontext.NewDecoder(bytes.NewReader(begin))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return ""
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return ""
		}
		if key := name.String(); (key == "pipeline" || key == "pipeline_id") && d.PeekKind() == '"' {
			value, err := d.ReadToken()
			if err != nil {
				return ""
			}
			return value.String()
		}
		if d.SkipValue() != nil {
			return ""
		}
	}
	return ""
}

func (a *api) update(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Pipeline   *string         `json:"pipeline"`
		PipelineID *string         `json:"pipeline_id"`
		Event      string          `json:"event"`
		Success    bool            `json:"success"`
		Errors     []string        `json:"errors"`
		Log        []string        `json:"log"`
		Stats      json.RawMessage `json:"stats"`
	}
	if err := a.decode(w, r, maxUpdate, a.updater(r), &in, "a JSON object with pipeline and event"); err != nil {
		return err
	}
	if in.Pipeline == nil {
		in.Pipeline = in.PipelineID
	}
	if in.Pipeline == nil || *in.Pipeline == "" || in.Event == "" {
		return errs.New(errs.Invalid, "httpapi.update", "pipeline and event are required")
	}
	kind, err := registry.ParseKind(in.Event)
	if err != nil {
		return err
	}
	id := registry.Unalias(*in.Pipeline)
	if !a.mayUpdate(r, registry.FlowOf(id)) {
		return errs.New(errs.Unauthorized, "httpapi.update", "the update carries no token of its flow")
	}
	// Of an address that was handed out; what is no number is of no attempt.
	attempt, _ := strconv.ParseInt(r.URL.Query().Get("attempt"), 10, 64)
	applied, err := a.Service.Update(r.Context(), registry.Event{
		Pipeline: id, Kind: kind, Success: in.Success, Errors: in.Errors, Log: in.Log, Stats: in.Stats, Outside: attempt,
	})
	answer := struct {
		Success *string  `json:"success"`
		Status  *string  `json:"status"`
		ID      *string  `json:"id"`
		Errors  []string `json:"errors"`
	}{Errors: in.Errors}
	if errs.Is(err, errs.NotFound) {
		answer.Errors = []string{"pipeline not found"}
		return writeJSON(w, http.StatusNotFound, answer)
	}
	if err != nil {
		return err
	}
	if answer.Errors == nil {
		answer.Errors = []string{}
	}
	// The contract has four states; a cancelled flow shows as failed.
	success, status := "pending", applied.FlowState.Stored()
	switch {
	case applied.FlowState == registry.Succeeded:
		success = "success"
	case applied.FlowState.Ended():
		success, status = "fail", registry.Failed.Stored()
	}
	answer.Success, answer.Status, answer.ID = &success, &status, &applied.FlowID
	return writeJSON(w, http.StatusOK, answer)
}

func datasetOf(r *http.Request) (datasetID, revision string) {
	return r.PathValue("owner") + "/" + r.PathValue("dataset"), r.PathValue("revision")
}

// varies are the headers that say who asks, and so what is shown.
const varies = "Auth-Token, Authorization"

func (a *api) cancel(w http.ResponseWriter, r *http.Request) error {
	dataset, which := datasetOf(r)
	state, err := a.Service.Cancel(r.Context(), auth.FromRequest(r), dataset, which)
	if err != nil {
		return err
	}
	name, outcome := apiState(state)
	return writeJSON(w, http.StatusOK, map[string]any{"state": name, "outcome": outcome})
}

func (a *api) retry(w http.ResponseWriter, r *http.Request) error {
	dataset, which := datasetOf(r)
	done, err := a.Service.Retry(r.Context(), auth.FromRequest(r), dataset, which)
	if err != nil {
		return err
	}
	said := "a new attempt was made"
	if !done {
		said = "nothing to do"
	}
	return writeJSON(w, http.StatusOK, map[string]any{"retried": done, "message": said})
}

// eventData is the data of an event. Whoever sees a redacted revision sees of its
// events how things stand, and neither errors nor addresses.
func eventData(at base, rev *registry.Revision, e registry.StoredEvent) ([]byte, error) {
	body, pipeline := at.completed(rev.ID, e.Body), e.Pipeline
	if rev.Redacted {
		var states struct {
			State   string `json:"state"`
			Flow    string `json:"flow_state"`
			Attempt int64  `json:"attempt"`
		}
		err := json.Unmarshal(body, &states)
		if err == nil {
			body, err = json.Marshal(states)
		}
		if err != nil {
			return nil, err
		}
		pipeline = rev.ID // the name of a pipeline holds that of a resource
	}
	body, err := bareJSON(body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Pipeline string          `json:"pipeline"`
		At       string          `json:"at"`
		Event    string          `json:"event"`
		Body     json.RawMessage `json:"body"`
	}{pipeline, stamp(e.At), string(e.Kind), body})
}

// bareJSON takes user, password and query off the addresses in the texts of a document.
func bareJSON(body json.RawMessage) (json.RawMessage, error) {
	if !bytes.Contains(body, []byte(":/")) && !bytes.Contains(body, []byte(`\`)) {
		return body, nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(bareTexts(v))
}

func bareTexts(v any) any {
	switch v := v.(type) {
	case string:
		return weburl.Redact(v)
	case []any:
		for i := range v {
			v[i] = bareTexts(v[i])
		}
	case map[string]any:
		for name, member := range v {
			if bare := weburl.Redact(name); bare != name {
				delete(v, name)
				name = bare
			}
			v[name] = bareTexts(member)
		}
	}
	return v
}
