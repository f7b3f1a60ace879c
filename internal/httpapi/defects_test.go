package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/registry"
)

// The defects of the original, by the numbers that are known for them: each is beaten.

func TestOriginalDefect1RefusedUploadsStay(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 1})
	bad := strings.Replace(spec("me", "a", "published", somewhere), "{", `{"schedule":"often",`, 1)
	if a := s.do("POST", "/source/upload", bad, asJSON, "Auth-Token: "+token); a.status != http.StatusBadRequest {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.get("/source/me/a/latest", token).checkError(t, "a refused upload", http.StatusNotFound, "no revision")
	s.upload(spec("me", "b", "published", somewhere), token) // it does not count
}

func TestOriginalDefect2RevisionsRefusedAtTheLimit(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 1})
	for n := 1; n <= 2; n++ {
		if flow := s.upload(spec("me", "a", "published", somewhere), token); flow != fmt.Sprintf("me/a/%d", n) {
			t.Error(flow)
		}
	}
}

func TestOriginalDefect3InternalErrors(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op"})
	token := s.token("me", auth.ServiceSource)
	s.create("me", "a", "published", registry.External)
	for _, body := range []string{`[]`, `1`, `"x"`, `true`, `{"meta":1}`, `{"meta":[]}`, `{"meta":{"ownerid":7}}`, `{"meta":{"ownerid":null}}`} {
		if a := s.do("POST", "/source/upload", body, asJSON, "Auth-Token: "+token); a.status != http.StatusBadRequest {
			t.Errorf("upload %s: %d %s", body, a.status, a.body)
		}
	}
	for _, token := range []string{"eyJhbGciOiJub25lIn0.eyJ1c2VyaWQiOiJtZSJ9.", "é", "a.b.c", strings.Repeat("a", 5000)} {
		if a := s.do("POST", "/source/upload", spec("me", "b", "published", somewhere), asJSON, "Auth-Token: "+token); a.status != http.StatusUnauthorized {
			t.Errorf("token %.20q: %d %s", token, a.status, a.body)
		}
	}
	const id = `"pipeline_id":"me/a/1/a"`
	for _, body := range []string{
		``, `null`, `[]`, `1`, `"x"`, `{}`, `{` + id + `}`, `{"event":"start"}`, `{"pipeline_id":7,"event":"start"}`, `{` + id + `,"event":7}`, `{` + id + `,"event":"stop"}`,
		`{` + id + `,"event":"finish","success":"false"}`, `{` + id + `,"event":"finish","errors":"x"}`, `{` + id + `,"event":"finish","errors":[1]}`, `{` + id + `,"event":"progress","log":{}}`,
		`{"pipeline_id":null,"event":"start"}`, "{\"pipeline_id\":\"\xff\",\"event\":\"start\"}",
	} {
		if a := s.do("POST", "/source/update", body, asJSON, "Authorization: Bearer op"); a.status != http.StatusBadRequest {
			t.Errorf("update %s: %d %s", body, a.status, a.body)
		}
	}
	for _, id := range []string{"me/a/1/z", "me/a/9/a", "x", "/", "./", "me/a/1/\\u0000", "\\u0000"} {
		if a := s.do("POST", "/source/update", `{"pipeline_id":"`+id+`","event":"start"}`, asJSON, "Authorization: Bearer op"); a.status != http.StatusNotFound && a.status != http.StatusBadRequest {
			t.Errorf("update of %s: %d %s", id, a.status, a.body)
		}
	}
}

func TestOriginalDefect4EndsWithoutOwnerOrFindability(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op"})
	for findability, want := range map[string]string{"": "SUCCEEDED", "published": "SUCCEEDED"} {
		flow := s.create("me", "a"+findability, findability, registry.External).ID
		for _, p := range []string{"/a", "/b", ""} {
			if a := s.news(flow+p, `"event":"finish","success":true`); a.status != http.StatusOK {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		if st := s.status(flow, s.token("me", "")); st.State != want {
			t.Errorf("%s is %s", flow, st.State)
		}
	}
}

func TestOriginalDefect5CascadeThatEndsTheFlow(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op"})
	flow := s.create("me", "a", "published", registry.External).ID
	a := s.news(flow+"/a", `"event":"finish","success":false,"errors":["row 7"]`)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"status":"failed"`) {
		t.Errorf("the answer before the cascade: %d %s", a.status, a.body)
	}
	st := s.status(flow, "")
	if len(st.Pipelines) != 3 || st.State != "FAILED" || strings.Join(st.Pipelines[flow+"/a"].ErrorLog, "") != "row 7" || st.ErrorLog[0] != "row 7" {
		t.Errorf("%+v", st)
	}
	want := `Dependency unsuccessful. Cannot run until dependency "` + flow + `/a" is successfully executed`
	for _, p := range []string{flow + "/b", flow} {
		if got := st.Pipelines[p].ErrorLog; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", p, got)
		}
	}
}

func TestOriginalDefect6TokensOfOtherServices(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	for _, service := range []string{"", auth.ServiceRawstore, auth.ServiceFrontend} {
		a := s.do("POST", "/source/upload", spec("me", "a", "published", somewhere), asJSON, "Auth-Token: "+s.token("me", service))
		a.checkError(t, service, http.StatusUnauthorized, denied)
	}
}

func TestOriginalDefect7UpdatesByAnybody(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op"})
	flow := s.create("me", "a", "published", registry.External).ID
	body := `{"pipeline_id":"` + flow + `","event":"finish","success":true}`
	for _, headers := range [][]string{{asJSON}, {asJSON, "Authorization: Bearer x"}, {asJSON, "Auth-Token: " + s.token("me", auth.ServiceSource)}} {
		s.do("POST", "/source/update", body, headers...).checkError(t, fmt.Sprint(headers), http.StatusUnauthorized, "no token")
	}
	if st := s.status(flow, ""); st.State != "QUEUED" {
		t.Error(st.State)
	}
}

func TestOriginalDefect8NothingIsFetchedAtUpload(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	asked := false
	other := s.listen(func(http.ResponseWriter, *http.Request) { asked = true })
	body := `{"meta":{"ownerid":"me","dataset":"a"},"inputs":[{"kind":"datapackage","parameters":{"descriptor":"` + other + `/datapackage.json"}}]}`
	if a := s.do("POST", "/source/upload", body, asJSON, "Auth-Token: "+s.token("me", auth.ServiceSource)); a.status != http.StatusBadRequest || !strings.Contains(a.body, "/inputs/0/parameters/descriptor: ") {
		t.Errorf("%d %s", a.status, a.body)
	}
	s.create("me", "b", "published", registry.External)
	a := s.get("/source/me/b/1?callback=alert", "")
	if !strings.HasPrefix(a.body, "{") || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		t.Errorf("a script: %s %s", a.header.Get("Content-Type"), a.body)
	}
	if asked {
		t.Error("the descriptor was fetched")
	}
}

func TestOriginalDefect9DatabaseErrorsAreShown(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	s.create("me", "a", "published", registry.External)
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []answer{
		s.get("/source/me/a/1", ""), s.get("/source/me", ""),
		s.do("POST", "/source/upload", spec("me", "b", "published", somewhere), asJSON, "Auth-Token: "+s.token("me", auth.ServiceSource)),
	} {
		var out struct{ Error struct{ Message string } }
		if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status < 500 || out.Error.Message == "" {
			t.Errorf("%d %s", a.status, a.body)
		}
		for _, secret := range []string{"SELECT", "dataset_revision", "sql", "database is closed"} {
			if strings.Contains(a.body, secret) {
				t.Errorf("%s shows %q", a.body, secret)
			}
		}
	}
}

func TestOriginalDefect10NamesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.token("me", auth.ServiceSource)
	for _, meta := range []string{`"ownerid":"me"`, `"ownerid":"me","dataset":null`, `"ownerid":"me","dataset":"a/b"`, `"ownerid":"me","dataset":".."`} {
		body := strings.Replace(spec("me", "a", "published", somewhere), `"ownerid":"me","dataset":"a"`, meta, 1)
		if a := s.do("POST", "/source/upload", body, asJSON, "Auth-Token: "+token); a.status != http.StatusBadRequest || !strings.Contains(a.body, "/meta/dataset: ") {
			t.Errorf("%s: %d %s", meta, a.status, a.body)
		}
	}
	slash := s.token("a/b", auth.ServiceSource)
	if a := s.do("POST", "/source/upload", spec("a/b", "c", "published", somewhere), asJSON, "Auth-Token: "+slash); a.status != http.StatusBadRequest || !strings.Contains(a.body, "/meta/ownerid: ") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestOriginalDefect11UploadsAndUpdatesThatRace(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op"})
	limited := s.sign(auth.Claims{UserID: "you", Service: auth.ServiceSource, MaxDatasets: 3})
	token := s.token("me", auth.ServiceSource)
	var mu sync.Mutex
	var wg sync.WaitGroup
	accepted := 0
	for i := range 12 {
		wg.Go(func() { s.upload(spec("me", "a", "published", somewhere), token) })
		wg.Go(func() {
			a := s.do("POST", "/source/upload", spec("you", fmt.Sprint("d", i), "published", somewhere), asJSON, "Auth-Token: "+limited)
			mu.Lock()
			defer mu.Unlock()
			switch a.status {
			case http.StatusOK:
				accepted++
			case http.StatusForbidden:
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if r := s.get("/source/me/a/12", ""); r.status != http.StatusOK || accepted != 3 || s.get("/source/me/a/13", "").status != http.StatusNotFound {
		t.Errorf("%d %s; %d of 3 datasets", r.status, r.body, accepted)
	}
	var planned []registry.PlannedPipeline
	for i := range 7 {
		planned = append(planned, registry.PlannedPipeline{ID: fmt.Sprintf("own/ds/1/p%d", i)})
	}
	flow := s.createPlanned("own", "ds", planned)
	for _, p := range planned {
		wg.Go(func() {
			if a := s.news(p.ID, `"event":"finish","success":true,"stats":{"bytes":1}`); a.status != http.StatusOK {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if st := s.status(flow, ""); st.State != "SUCCEEDED" || len(st.Pipelines) != 7 {
		t.Errorf("%+v", st)
	}
}
