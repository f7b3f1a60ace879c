package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/testkit"
)

// create makes a revision past the API, for runners that no upload asks for: it has
// the pipelines "a", "b", which waits for it, and the last one.
func (s *server) create(owner, dataset, findability string, runner registry.Runner) *registry.Revision {
	s.Helper()
	return testkit.Must(s.store.CreateRevision(s.Context(), registry.New{
		OwnerID: owner, Dataset: dataset, Findability: findability, Spec: json.RawMessage(spec(owner, dataset, findability, somewhere)), Runner: runner, MaxDatasets: -1,
		Plan: func(n int64, _ time.Time, _ bool) ([]registry.PlannedPipeline, error) {
			flow := fmt.Sprintf("%s/%s/%d", owner, dataset, n)
			return []registry.PlannedPipeline{
				{ID: flow + "/a", Title: "A"},
				{ID: flow + "/b", Title: "B", Dependencies: []string{flow + "/a"}},
				{ID: flow, Title: "Creating Package", Dependencies: []string{flow + "/a", flow + "/b"}},
			}, nil
		},
	}))(s)
}

// createPlanned makes a public revision of the runner external with pipelines of its own.
func (s *server) createPlanned(owner, dataset string, planned []registry.PlannedPipeline) (flow string) {
	s.Helper()
	return testkit.Must(s.store.CreateRevision(s.Context(), registry.New{
		OwnerID: owner, Dataset: dataset, Findability: "published", Spec: json.RawMessage(spec(owner, dataset, "published", somewhere)), Runner: registry.External, MaxDatasets: -1,
		Plan: func(int64, time.Time, bool) ([]registry.PlannedPipeline, error) { return planned, nil },
	}))(s).ID
}

// TestStatus: the whole answer from the moment of the upload, and each revision with
// its own spec.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.token("me", auth.ServiceSource)
	first := spec("me", "a", "published", somewhere)
	second := spec("me", "a", "published", somewhere+"?2")
	s.upload(first, token)
	s.upload(second, token)

	a := s.get("/source/me/a/1", "")
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(a.body), &fields); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"id": `"me/a/1"`, "state": `"QUEUED"`, "logs": "null", "error_log": "[]", "stats": "null", "attempt": "1", "outcome": "null", "certified": "false",
		"links": `{"self":"` + s.http.URL + `/source/me/a/1","events":"` + s.http.URL + `/source/me/a/1/events","page":null,"package":null}`,
	} {
		if string(fields[name]) != want {
			t.Errorf("%s is %s, want %s", name, fields[name], want)
		}
	}
	for _, name := range []string{"modified", "created"} {
		var text string
		if err := json.Unmarshal(fields[name], &text); err != nil {
			t.Fatal(err)
		}
		if at, err := time.Parse("2006-01-02T15:04:05.000000Z", text); err != nil || time.Since(at) > time.Minute || time.Since(at) < 0 {
			t.Errorf("%s is %s: %v", name, text, err)
		}
	}
	var pipelines map[string]map[string]json.RawMessage
	if err := json.Unmarshal(fields["pipelines"], &pipelines); err != nil {
		t.Fatal(err)
	}
	if len(pipelines) != 7 {
		t.Errorf("%d pipelines, want 7", len(pipelines))
	}
	for name, want := range map[string]string{
		"title": `"Creating CSV"`, "status": `"QUEUED"`, "stats": "null", "error_log": "[]", "started": "null", "finished": "null", "progress": "null", "reused": "null",
	} {
		if got := pipelines["me/a/1/t_csv"][name]; string(got) != want {
			t.Errorf("%s of a pipeline is %s, want %s", name, got, want)
		}
	}
	if a.header.Get("Cache-Control") != "no-cache" || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%v", a.header)
	}
	for path, want := range map[string]string{"me/a/1": first, "me/a/2": second, "me/a/latest": second} {
		if got := s.status(path, s.token("me", "")).Spec; string(got) != want { // byte for byte
			t.Errorf("the spec of %s is %s", path, got)
		}
	}
	for _, path := range []string{
		"me/a/successful", "me/a/3", "me/a/0", "me/a/-1", "me/a/+1", "me/a/01", "me/a/1.0", "me/a/Latest", "me/a/99999999999999999999", "me/a/x",
		"me/b/1", "you/a/1", "me/%00/1", "me/%ff/1", "me%2Fa/1/1", "me/a%2F1/1", "me/" + strings.Repeat("x", 5000) + "/1",
	} {
		s.get("/source/"+path, token).checkError(t, path, http.StatusNotFound, "no revision")
	}
}

// TestRedacted: strangers see the states and titles of what is private, in its
// events as well, and nothing else.
func TestRedacted(t *testing.T) {
	t.Parallel()
	s := start(t, options{redact: true, updateToken: "op"})
	flow := s.create("me", "hidden", "private", registry.External).ID
	s.news(flow+"/a", `"event":"finish","success":true,"stats":{"bytes":4242}`)
	s.news(flow+"/b", `"event":"finish","errors":["the secret of row 3"]`)
	owner := s.token("me", "")
	for _, path := range []string{"/source/" + flow, "/source/" + flow + "/events"} {
		if a := s.get(path, owner); !strings.Contains(a.body, "the secret of row 3") || !strings.Contains(a.body, "4242") {
			t.Errorf("%s to the owner: %s", path, a.body)
		}
		a := s.get(path, "")
		if a.status != http.StatusOK || !strings.Contains(a.body, "FAILED") {
			t.Errorf("%s to a stranger: %d %s", path, a.status, a.body)
		}
		for _, secret := range []string{"secret", "4242", "example.com", "ownerid", flow + "/a", flow + "/b", `"A"`} {
			if strings.Contains(a.body, secret) {
				t.Errorf("%s shows a stranger %q: %s", path, secret, a.body)
			}
		}
	}
	if st := s.status(flow, ""); string(st.Spec) != "null" || len(st.Pipelines) != 3 || st.Pipelines[flow+"/file-1"].Title != "file" || st.Pipelines[flow].Title != "package" {
		t.Errorf("%+v", st)
	}
	s.get("/source/me/absent/1", "").checkError(t, "what is not there", http.StatusNotFound, "no revision")
}

// news sends an update as an operator; the fields are JSON.
func (s *server) news(pipeline, fields string) answer {
	s.Helper()
	a := s.do("POST", "/source/update", fmt.Sprintf(`{"pipeline":%q,%s}`, pipeline, fields), asJSON, "Authorization: Bearer op")
	if a.status != http.StatusOK {
		s.Fatalf("update of %s: %d %s", pipeline, a.status, a.body)
	}
	return a
}

// TestUpdateCallers: who may send news of a flow.
func TestUpdateCallers(t *testing.T) {
	t.Parallel()
	local := options{anonymousUpdates: true}
	type call struct {
		name    string
		o       options
		token   string // "" none, "flow" the flow's, "other" another flow's, else as it is
		headers []string
		want    int
	}
	calls := []call{
		{name: "token of the flow", token: "flow", want: 200},
		{name: "token of the flow, through a proxy", token: "flow", headers: []string{"X-Forwarded-For: 10.0.0.1"}, want: 200},
		{name: "token of the flow, where operators have one", o: options{updateToken: "op"}, token: "flow", want: 200},
		{name: "token of another flow", token: "other", want: 401},
		{name: "token of another flow, locally", o: local, token: "other", want: 401},
		{name: "no token of a flow", token: "x", want: 401},
		{name: "empty token, locally", o: local, token: "&", want: 401},
		{name: "operator", o: options{updateToken: "op"}, headers: []string{"Authorization: Bearer op"}, want: 200},
		{name: "operator, scheme in lower case", o: options{updateToken: "op"}, headers: []string{"Authorization: bearer op"}, want: 200},
		{name: "wrong operator", o: options{updateToken: "op"}, headers: []string{"Authorization: Bearer o"}, want: 401},
		{name: "wrong operator, locally", o: local, headers: []string{"Authorization: Bearer o"}, want: 401},
		{name: "empty operator", headers: []string{"Authorization: Bearer "}, want: 401},
		{name: "empty operator, locally", o: local, headers: []string{"Authorization: Bearer "}, want: 401},
		{name: "nobody", want: 401},
		{name: "nobody, where operators have a token", o: options{updateToken: "op"}, want: 401},
		{name: "local", o: local, want: 200},
		{name: "local, where operators have a token", o: options{anonymousUpdates: true, updateToken: "op"}, want: 200},
		{name: "localhost", o: local, headers: []string{"Host: localhost:8000"}, want: 200},
		{name: "IPv6", o: local, headers: []string{"Host: [::1]:8000"}, want: 200},
		{name: "a name that leads here", o: local, headers: []string{"Host: evil.example"}, want: 401},
		{name: "a name that begins as this host", o: local, headers: []string{"Host: localhost.evil.example"}, want: 401},
		{name: "known by another address", o: options{anonymousUpdates: true, publicURL: "https://data.example"}, want: 401},
	}
	// What browsers and proxies add, alone and two at a time.
	added := []string{
		"Origin: http://evil.example", "Origin: null", "Origin: ", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Forwarded: for=127.0.0.1",
		"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: localhost", "x-forwarded-anything: ", "X-Real-IP: 127.0.0.1", "Via: 1.1 x",
	}
	for i, one := range added {
		calls = append(calls, call{name: one, o: local, headers: []string{one}, want: 401})
		calls = append(calls, call{name: one + ", and another", o: local, headers: []string{one, added[(i+5)%len(added)]}, want: 401})
	}
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, c.o)
			flow := s.create("me", "a", "published", registry.External).ID
			path := "/source/update"
			switch c.token {
			case "":
			case "flow":
				path += "?token=" + s.svc.UpdateToken(flow)
			case "other":
				path += "?token=" + s.svc.UpdateToken("me/a/2")
			default:
				path += "?token=" + c.token
			}
			a := s.do("POST", path, `{"pipeline_id":"./`+flow+`/a","event":"start"}`, append([]string{asJSON}, c.headers...)...)
			state := "INPROGRESS"
			if c.want != http.StatusOK {
				a.checkError(t, c.name, c.want, "token")
				state = "QUEUED"
			} else if a.status != c.want {
				t.Errorf("%d %s", a.status, a.body)
			}
			if got := s.status(flow, "").State; got != state {
				t.Errorf("the flow is %s, want %s", got, state)
			}
		})
	}
}

// TestUpdate: the news of a flow, and what each is answered with.
func TestUpdate(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op"})
	flow := s.create("me", "a", "published", registry.External).ID
	embedded := s.create("me", "b", "published", registry.Embedded).ID
	done := func(success, status, id, errors string) string {
		return fmt.Sprintf(`{"success":%q,"status":%q,"id":%q,"errors":%s}`, success, status, id, errors)
	}
	const notFound = `{"success":null,"status":null,"id":null,"errors":["pipeline not found"]}`
	for _, c := range []struct {
		name, body string
		status     int
		want       string // the whole answer, or a part of the error
	}{
		{"no body", "", 400, "the body must be a JSON object"},
		{"null", "null", 400, "pipeline and event are required"},
		{"a list", "[]", 400, "the body must be a JSON object"},
		{"not JSON", "{", 400, "the body must be a JSON object"},
		{"not UTF-8", `{"pipeline":"` + flow + `/a","event":"start","stats":{"a":"` + "\xff" + `"}}`, 400, "not UTF-8"},
		{"no pipeline", `{"event":"start"}`, 400, "pipeline and event are required"},
		{"no event", `{"pipeline":"x"}`, 400, "pipeline and event are required"},
		{"pipeline is a number", `{"pipeline":1,"event":"start"}`, 400, "the body must be a JSON object"},
		{"unknown event", `{"pipeline":"` + flow + `/a","event":"jump"}`, 400, `unknown event "jump"`},
		{"cancel is no event", `{"pipeline":"` + flow + `/a","event":"cancel"}`, 400, `unknown event "cancel"`},
		{"errors is a text", `{"pipeline":"` + flow + `/a","event":"finish","errors":"x"}`, 400, "the body must be a JSON object"},
		{"stats too large", `{"pipeline":"` + flow + `/a","event":"progress","stats":"` + strings.Repeat("x", 70_000) + `"}`, 400, "stats"},
		{"body too large", `{"pipeline":"` + flow + `/a","event":"progress","stats":"` + strings.Repeat("x", 5<<20) + `"}`, 413, "larger than"},
		{"unknown flow", `{"pipeline":"me/none/1","event":"start"}`, 404, notFound},
		{"unknown pipeline", `{"pipeline":"` + flow + `/none","event":"start"}`, 404, notFound},
		{"odd pipeline", `{"pipeline":"\u0000/../%","event":"start"}`, 404, notFound},
		{"queue", `{"pipeline_id":"./` + flow + `/a","event":"queue"}`, 200, done("pending", "pending", flow, "[]")},
		{"start", `{"pipeline":"` + flow + `/a","event":"start"}`, 200, done("pending", "running", flow, "[]")},
		{"start again", `{"pipeline":"` + flow + `/a","event":"start"}`, 200, done("pending", "running", flow, "[]")},
		{"progress", `{"pipeline":"` + flow + `/a","event":"progress","log":["a line"],"errors":null,"stats":{"bytes":1}}`, 200, done("pending", "running", flow, "[]")},
		{"finish", `{"pipeline":"` + flow + `/a","event":"finish","success":true,"stats":{"bytes":1}}`, 200, done("pending", "running", flow, "[]")},
		{"start after finish", `{"pipeline":"` + flow + `/a","event":"start"}`, 200, done("pending", "running", flow, "[]")},
		{"failure, and what hangs on it", `{"pipeline":"` + flow + `/b","event":"finish","success":false,"errors":["bad"]}`, 200, done("fail", "failed", flow, `["bad"]`)},
		{"success after failure", `{"pipeline":"` + flow + `/b","event":"finish","success":true}`, 200, done("fail", "failed", flow, "[]")},
		{"embedded flow", `{"pipeline":"` + embedded + `/a","event":"finish","success":true}`, 200, done("pending", "pending", embedded, "[]")},
	} {
		a := s.do("POST", "/source/update", c.body, asJSON, "Authorization: Bearer op")
		if strings.HasPrefix(c.want, "{") {
			if a.status != c.status || strings.TrimSpace(a.body) != c.want {
				t.Errorf("%s: %d %s, want %d %s", c.name, a.status, a.body, c.status, c.want)
			}
			continue
		}
		a.checkError(t, c.name, c.status, c.want)
	}
	st := s.status(flow, "")
	if st.State != "FAILED" || st.Outcome != nil || len(st.ErrorLog) != 2 || st.ErrorLog[0] != "bad" || !strings.HasPrefix(st.ErrorLog[1], "Dependency unsuccessful. ") {
		t.Errorf("%+v", st)
	}
	if st := s.status(embedded, ""); st.State != "QUEUED" {
		t.Errorf("an update moved an embedded flow: %+v", st)
	}

	// To the end, where the package's stats are the flow's, and a cancelled one.
	flow = s.create("me", "c", "published", registry.External).ID
	for i, id := range []string{flow + "/a", flow + "/b", flow} {
		a := s.news(id, fmt.Sprintf(`"event":"finish","success":true,"stats":{"bytes":%d}`, i))
		if i == 2 && strings.TrimSpace(a.body) != done("success", "success", flow, "[]") {
			t.Error(a.body)
		}
	}
	if a := s.get("/source/me/c/successful", ""); !strings.Contains(a.body, `"state":"SUCCEEDED"`) || !strings.Contains(a.body, `"stats":{"bytes":2}`) {
		t.Error(a.body)
	}
	flow = s.create("me", "d", "published", registry.External).ID
	if a := s.do("POST", "/source/"+flow+"/cancel", "", "Auth-Token: "+s.token("me", "")); a.status != http.StatusOK {
		t.Error(a.body)
	}
	if a := s.news(flow, `"event":"finish","success":true`); strings.TrimSpace(a.body) != done("fail", "failed", flow, "[]") {
		t.Errorf("of a cancelled flow: %s", a.body)
	}
}

// TestCancelAndRetry: an owner ends a flow and starts it again, and nobody else does.
func TestCancelAndRetry(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	source := s.token("me", auth.ServiceSource)
	flow := s.upload(spec("me", "a", "published", somewhere), source)
	for _, c := range []struct {
		name, verb, token string
		status            int
		want              string
	}{
		{"nobody", "cancel", "", 401, denied},
		{"another", "cancel", s.token("you", ""), 403, denied},
		{"a reader", "cancel", s.token("me", auth.ServiceFrontend), 401, denied},
		{"open", "retry", source, 409, "there is nothing to retry"},
		{"owner", "cancel", s.token("me", ""), 200, `{"outcome":"cancelled","state":"FAILED"}`},
		{"again", "cancel", source, 409, "has ended"},
		{"nobody", "retry", "", 401, denied},
		{"another", "retry", s.token("you", auth.ServiceSource), 403, denied},
		{"owner", "retry", source, 200, `"retried":true`},
	} {
		a := s.do("POST", "/source/"+flow+"/"+c.verb, "", "Auth-Token: "+c.token)
		if c.status != http.StatusOK {
			a.checkError(t, c.name+": "+c.verb, c.status, c.want)
		} else if a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s: %s: %d %s", c.name, c.verb, a.status, a.body)
		}
		if c.verb == "cancel" && c.status == http.StatusOK {
			st := s.status(flow, "")
			if st.State != "FAILED" || st.Outcome == nil || *st.Outcome != "cancelled" || len(st.ErrorLog) == 0 || st.ErrorLog[0] != "Cancelled by its owner" {
				t.Errorf("%+v", st)
			}
		}
	}
	if st := s.status(flow, ""); st.State != "QUEUED" || st.Attempt != 3 || len(st.ErrorLog) != 0 {
		t.Errorf("after the retry: %+v", st)
	}
}

// TestEvents: every change of a flow in order, live, resumed where a reader was, and
// an end.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op"})
	flow := s.create("me", "a", "published", registry.External).ID
	if a := s.do("HEAD", "/source/"+flow+"/events", ""); a.status != http.StatusOK || a.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	read := func(after string) *bufio.Scanner {
		req := testkit.Must(http.NewRequestWithContext(ctx, "GET", s.http.URL+"/source/"+flow+"/events", nil))(t)
		req.Header.Set("Last-Event-ID", after)
		res := testkit.Must(s.http.Client().Do(req))(t)
		t.Cleanup(func() { res.Body.Close() })
		return bufio.NewScanner(res.Body)
	}
	lines := read("")
	next := func(prefix string) string {
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				return text
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return ""
	}
	for id := 1; id <= 3; id++ { // the three pipelines were queued
		if got := next("id: "); got != fmt.Sprint(id) {
			t.Fatalf("event %s, want %d", got, id)
		}
	}
	s.news(flow+"/a", `"event":"start"`)
	if id, data := next("id: "), next("data: "); id != "4" || !strings.Contains(data, `"event":"start"`) || !strings.Contains(data, `"state":"INPROGRESS"`) {
		t.Errorf("event %s: %s", id, data)
	}
	for _, id := range []string{flow + "/a", flow + "/b", flow} {
		s.news(id, `"event":"finish","success":true`)
	}
	for next("event: ") != "end" {
		if next("data: ") == "" {
			t.Fatal("an event without data")
		}
	}
	if data := next("data: "); data != `{"state":"SUCCEEDED"}` {
		t.Error(data)
	}
	for lines.Scan() { // to its end, which comes
	}
	if lines.Err() != nil {
		t.Error(lines.Err())
	}
	for after, first := range map[string]string{"5": "6", "x": "1", "-1": "1"} {
		lines = read(after)
		if id := next("id: "); id != first {
			t.Errorf("after %s comes %s, want %s", after, id, first)
		}
	}
}

// TestEventsEndWithTheServer: a stream of a flow that goes on does not hold a server
// that stops.
func TestEventsEndWithTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	flow := s.create("me", "a", "published", registry.External).ID
	req := testkit.Must(http.NewRequestWithContext(t.Context(), "GET", s.http.URL+"/source/"+flow+"/events", nil))(t)
	res := testkit.Must(s.http.Client().Do(req))(t)
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && lines.Text() != "id: 3" {
	}
	s.stop()
	for lines.Scan() { // to its end, which comes
		if lines.Text() == "event: end" {
			t.Error("the flow has not ended")
		}
	}
	if res.StatusCode != http.StatusOK || lines.Err() != nil {
		t.Errorf("%d %v", res.StatusCode, lines.Err())
	}
}
