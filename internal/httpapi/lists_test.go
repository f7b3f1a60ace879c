package httpapi_test

import (
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

func (s *server) read(path, token string, v any) {
	s.Helper()
	a := s.get(path, token)
	if err := json.Unmarshal([]byte(a.body), v); err != nil || a.status != http.StatusOK {
		s.Fatalf("%s: %d %s", path, a.status, a.body)
	}
}

// TestPages: lists come in pages that go on where the one before ended, whatever is
// made meanwhile.
func TestPages(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	for i := range 7 {
		s.create("me", fmt.Sprint("d", i), "published", registry.External)
	}
	for range 4 {
		s.create("me", "d3", "published", registry.External)
	}
	type line struct {
		ID, Name, State, Owner, OwnerID, Findability string
		Revision                                     int64
		Links                                        struct{ Self string }
	}
	var names []string
	for after := ""; ; {
		var page struct {
			Datasets []line
			Next     *string
		}
		s.read("/source/me?limit=3&after="+after, "", &page)
		for _, d := range page.Datasets {
			names = append(names, d.Name)
			if d.ID != "me/"+d.Name || d.State != "QUEUED" || d.Owner != "me" || d.OwnerID != "me" || d.Findability != "published" || d.Links.Self != s.http.URL+"/source/"+d.ID ||
				(d.Revision == 5) != (d.Name == "d3") {
				t.Errorf("%+v", d)
			}
		}
		if page.Next == nil {
			break
		}
		after = *page.Next
		s.create("me", "a-new-one-before", "published", registry.External)
	}
	if got := strings.Join(names, " "); got != "d0 d1 d2 d3 d4 d5 d6" {
		t.Errorf("listed %s", got)
	}
	var numbers []int64
	for after := "9007199254740992"; ; {
		var page struct {
			Revisions []line
			Next      *int64
		}
		s.read("/source/me/d3?limit=2&after="+after, "", &page)
		for _, r := range page.Revisions {
			numbers = append(numbers, r.Revision)
			if r.ID != fmt.Sprintf("me/d3/%d", r.Revision) || r.State != "QUEUED" {
				t.Errorf("%+v", r)
			}
		}
		if page.Next == nil {
			break
		}
		after = fmt.Sprint(*page.Next)
		s.create("me", "d3", "published", registry.External)
	}
	if got := fmt.Sprint(numbers); got != "[5 4 3 2 1]" {
		t.Errorf("listed %s", got)
	}
	for _, q := range []string{"limit=0", "limit=-1", "limit=1001", "limit=x", "limit=01", "limit=%2B1", "limit=9999999999999999999", "after=x&limit=1", "after=-1", "after=1.0"} {
		s.get("/source/me/d3?"+q, "").checkError(t, q, http.StatusBadRequest, "must be a number")
	}
	s.get("/source/me?limit=0", "").checkError(t, "limit", http.StatusBadRequest, "must be a number")
	s.get("/source/me/absent", "").checkError(t, "absent", http.StatusNotFound, "no revision")
}

// TestDiff: two revisions are compared in spec, schema and stats.
func TestDiff(t *testing.T) {
	t.Parallel()
	s := start(t, options{workers: true})
	token := s.token("me", auth.ServiceSource)
	source := s.file("me", "id,name\n1,x\n")
	first := spec("me", "a", "published", source)
	if st := s.await(s.upload(first, token), token); st.State != "SUCCEEDED" {
		t.Fatal(st.ErrorLog)
	}
	second := strings.Replace(first, `"inputs"`, `"schedule":"every 1d","inputs"`, 1)
	second = strings.Replace(second, `"name":"name"`, `"title":"T","name":"name"`, 1)
	if st := s.await(s.upload(second, token), token); st.State != "SUCCEEDED" {
		t.Fatal(st.ErrorLog)
	}
	type list struct {
		Changes []struct {
			Op, Pointer string
			Old, New    any
		}
		LeftOut int `json:"left_out"`
	}
	var d struct {
		From, To            string
		Spec, Schema, Stats list
	}
	s.read("/source/me/a/1/diff/latest", "", &d)
	if d.From != "me/a/1" || d.To != "me/a/2" || len(d.Spec.Changes) != 2 {
		t.Fatalf("%+v", d)
	}
	if c := d.Spec.Changes[1]; c.Op != "add" || c.Pointer != "/schedule" || c.New != "every 1d" {
		t.Errorf("%+v", c)
	}
	if c := d.Schema.Changes; len(c) != 1 || c[0].Op != "add" || !strings.HasSuffix(c[0].Pointer, "/title") || c[0].New != "T" {
		t.Errorf("%+v", c)
	}
	s.read("/source/me/a/2/diff/2", "", &d)
	if len(d.Spec.Changes)+len(d.Schema.Changes)+len(d.Stats.Changes) != 0 {
		t.Errorf("%+v", d)
	}
	s.get("/source/me/a/1/diff/3", "").checkError(t, "absent", http.StatusNotFound, "no revision")
}

// TestPlan: a revision is planned again, and nothing in it is an address for updates.
func TestPlan(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	flow := s.upload(spec("me", "a", "published", somewhere), s.token("me", auth.ServiceSource))
	var pipelines [][2]json.RawMessage
	s.read("/source/"+flow+"/plan", "", &pipelines)
	st := s.status(flow, "")
	if len(pipelines) != len(st.Pipelines) || len(pipelines) == 0 {
		t.Errorf("%d planned, %d there", len(pipelines), len(st.Pipelines))
	}
	for _, p := range pipelines {
		var id string
		var details struct{ Pipeline []struct{ Run string } }
		if json.Unmarshal(p[0], &id) != nil || json.Unmarshal(p[1], &details) != nil || len(details.Pipeline) == 0 {
			t.Errorf("%s", p)
		}
		if _, ok := st.Pipelines[id]; !ok {
			t.Errorf("%s is not in the status", id)
		}
		if strings.Contains(string(p[1]), "/source/update") {
			t.Errorf("%s shows where updates are sent", id)
		}
	}
	// One that the original took, and that cannot be planned.
	testkit.Must(s.store.CreateRevision(t.Context(), registry.New{
		OwnerID: "me", Dataset: "old", Findability: "published", Spec: json.RawMessage(`{"meta":{}}`), Runner: registry.External, MaxDatasets: -1,
		Plan: func(int64, time.Time, bool) ([]registry.PlannedPipeline, error) {
			return []registry.PlannedPipeline{{ID: "me/old/1"}}, nil
		},
	}))(t)
	s.get("/source/me/old/1/plan", "").checkError(t, "old", http.StatusBadRequest, "/meta/ownerid: is required")
}

// TestLog: each pipeline has its log, the package's under the name of the dataset.
func TestLog(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op"})
	flow := s.create("me", "data", "published", registry.External).ID
	s.news(flow+"/a", `"event":"finish","success":true,"log":["one","two <b>"]`)
	s.news(flow, `"event":"progress","log":["three"]`)
	for name, want := range map[string]string{"a": "one\ntwo <b>\n", "b": "", "data": "three\n"} {
		a := s.get("/source/me/data/latest/pipelines/"+name+"/log", "")
		if a.status != http.StatusOK || a.body != want || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d %q", name, a.status, a.body)
		}
	}
	s.get("/source/me/data/1/pipelines/c/log", "").checkError(t, "c", http.StatusNotFound, "no pipeline")
}

// TestReport: the report is there in both forms, also of a revision that failed.
func TestReport(t *testing.T) {
	t.Parallel()
	s := start(t, options{workers: true})
	token := s.token("me", auth.ServiceSource)
	flow := s.upload(spec("me", "a", "published", s.file("me", "id,name\n1,one\nx,two\n")), token)
	if st := s.await(flow, ""); st.State != "FAILED" {
		t.Fatalf("%+v", st)
	}
	at := "/source/" + flow + "/report"
	a := s.get(at, "")
	var report []struct {
		Resource string `json:"resource"`
		Errors   int    `json:"error-count"`
	}
	if err := json.Unmarshal([]byte(a.body), &report); err != nil || len(report) != 1 || report[0].Resource != "t" || report[0].Errors != 1 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if h := s.do("HEAD", at, ""); h.status != http.StatusOK || h.body != "" {
		t.Errorf("HEAD: %d %q", h.status, h.body)
	}
	a = s.get(at+"?format=csv", "")
	const want = "resource,row,column,field,code,message,cell\r\nt,3,1,id,type-or-format-error,\"field \"\"id\"\": \"\"x\"\" is not an integer\",x\r\n"
	if a.body != want || a.header.Get("Content-Type") != "text/csv; charset=utf-8" {
		t.Errorf("%d %q", a.status, a.body)
	}
	s.get(at+"?format=xml", "").checkError(t, "xml", http.StatusBadRequest, "json or csv")
	other := s.create("me", "b", "published", registry.External).ID
	s.get("/source/"+other+"/report", "").checkError(t, "none yet", http.StatusNotFound, "no validation report")
}

// TestRefusedRestore: what cannot be restored, and an erasure that takes longer than its
// caller waits.
func TestRefusedRestore(t *testing.T) {
	t.Parallel()
	s := start(t, options{eraseWait: 1})
	token := s.token("me", auth.ServiceSource)
	send := func(method, path, token string) answer {
		return s.do(method, "/source/me/a"+path, "", "Auth-Token: "+token)
	}
	s.create("me", "a", "published", registry.External)
	send("DELETE", "", token)
	send("POST", "/restore", s.sign(auth.Claims{UserID: "me", Service: auth.ServiceSource})).checkError(t, "over the limit", http.StatusForbidden, "Max datasets")
	s.create("me", "a", "published", registry.External)
	send("POST", "/restore", token).checkError(t, "pushed again", http.StatusConflict, "pushed again")
	if a := send("DELETE", "?erase=now", token); a.status != http.StatusAccepted || !strings.Contains(a.body, `"erased":false`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	send("GET", "", token).checkError(t, "what is being erased", http.StatusNotFound, "")
	if err := s.svc.CollectGarbage(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	send("POST", "/restore", token).checkError(t, "erased", http.StatusNotFound, "in the trash")
}

// TestDelete: a dataset that was deleted is gone with its revisions; made again it goes
// on with its numbers and shows nothing of what was.
func TestDelete(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.token("me", auth.ServiceSource)
	s.create("me", "a", "published", registry.External)
	s.create("me", "a", "published", registry.External)
	remove := func() answer { return s.do("DELETE", "/source/me/a", "", "Auth-Token: "+token) }
	if a := remove(); a.status != http.StatusNoContent || a.body != "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, path := range []string{"", "/1", "/2", "/latest", "/1/events", "/1/plan", "/1/diff/2", "/1/pipelines/a/log"} {
		s.get("/source/me/a"+path, token).checkError(t, path, http.StatusNotFound, "no revision")
	}
	remove().checkError(t, "a second time", http.StatusNotFound, "no revision")
	if list := s.get("/source/me", token).body; strings.Contains(list, "me/a") {
		t.Error(list)
	}
	restore := func(token string) answer { return s.do("POST", "/source/me/a/restore", "", "Auth-Token: "+token) }
	restore(s.token("you", auth.ServiceSource)).checkError(t, "a stranger restores", http.StatusNotFound, "in the trash")
	s.do("DELETE", "/source/me/a?erase=now", "", "Auth-Token: "+s.token("you", auth.ServiceSource)).checkError(t, "a stranger erases", http.StatusNotFound, "no revision")
	if a := restore(token); a.status != http.StatusOK || a.body != `{"id":"me/a","restored":true}`+"\n" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := s.get("/source/me/a/2", ""); a.status != http.StatusOK {
		t.Errorf("what was restored: %d %s", a.status, a.body)
	}
	remove()
	s.do("DELETE", "/source/me/a?erase=later", "", "Auth-Token: "+token).checkError(t, "later", http.StatusBadRequest, "must be now")
	if a := s.do("DELETE", "/source/me/a?erase=now", "", "Auth-Token: "+token); a.status != http.StatusOK || a.body != `{"erased":true,"id":"me/a"}`+"\n" {
		t.Errorf("%d %s", a.status, a.body)
	}
	restore(token).checkError(t, "what was erased", http.StatusNotFound, "in the trash")
	if r := s.create("me", "a", "private", registry.External); r.Number != 3 || r.Findability != "private" {
		t.Errorf("%+v", r)
	}
	s.get("/source/me/a/1", token).checkError(t, "what it was", http.StatusNotFound, "no revision")
	if a := s.get("/source/me/a/3", token); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}
