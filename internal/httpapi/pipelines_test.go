package httpapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/dpp"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/testkit"
)

// TestSourcePipelines: the operators' token opens the list, and nothing else does. It
// holds the open pipelines of the runner dpp, parents first, as its plugin needs them.
func TestSourcePipelines(t *testing.T) {
	t.Parallel()
	service := httpService(t)
	s := start(t, options{updateToken: "op", runner: registry.DPP, dpp: testkit.Must(dpp.New(service, dpp.Auto))(t)})
	owner := s.token("me", auth.ServiceSource)
	list := func() (list []struct {
		ID      string
		Details struct {
			Hooks    []string
			Pipeline []struct {
				Run        string
				Parameters map[string]any
			}
			Dependencies []struct{ Pipeline string }
			Title        string
		}
	},
	) {
		t.Helper()
		a := s.do("GET", "/source-pipelines", "", "Authorization: Bearer op")
		if err := json.Unmarshal([]byte(a.body), &list); err != nil || a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Fatalf("%d %s: %v", a.status, a.body, err)
		}
		return list
	}
	if l := list(); len(l) != 0 {
		t.Errorf("%v", l)
	}
	source := s.file("me", "id,name\n1,x\n")
	for _, header := range []string{"Auth-Token: " + owner, "Authorization: Bearer " + owner, "Auth-Token: op", "Authorization: Basic op", "Authorization: Bearer ", "X: "} {
		s.do("GET", "/source-pipelines", "", header).checkError(t, header, http.StatusUnauthorized, "SPECSTORE_UPDATE_TOKEN")
	}
	open := start(t, options{}) // without a token nobody has it
	open.do("GET", "/source-pipelines", "", "Authorization: Bearer ").checkError(t, "without a token", http.StatusUnauthorized, "")

	flow := s.upload(spec("me", "a", "private", source), owner)
	l := list()
	var ids []string
	for _, p := range l {
		for _, d := range p.Details.Dependencies {
			if !slices.Contains(ids, strings.TrimPrefix(d.Pipeline, "./")) {
				t.Errorf("%s comes before %s", p.ID, d.Pipeline)
			}
		}
		ids = append(ids, p.ID)
		if want := s.http.URL + "/source/update?token=" + s.svc.UpdateToken(flow) + "&attempt=1"; !slices.Equal(p.Details.Hooks, []string{want}) {
			t.Errorf("%s: hooks %q", p.ID, p.Details.Hooks)
		}
		for _, step := range p.Details.Pipeline {
			// Anybody may read the file by its address in the list.
			if address, ok := step.Parameters["url"].(string); ok && strings.HasPrefix(address, s.http.URL) {
				path, _, _ := strings.Cut(strings.TrimPrefix(address, s.http.URL), "#")
				if a := s.get(path, ""); a.status != http.StatusOK || a.body != "id,name\n1,x\n" || !strings.HasSuffix(address, "#.csv") {
					t.Errorf("%s: %d %s", address, a.status, a.body)
				}
			}
		}
	}
	if len(ids) == 0 || ids[len(ids)-1] != flow {
		t.Fatalf("%q", ids)
	}
	if again := list(); len(again) != len(l) || again[0].Details.Pipeline[1].Run != l[0].Details.Pipeline[1].Run {
		t.Error("the list changes")
	}
	// News of another attempt changes nothing; that of this one does.
	hook := strings.TrimPrefix(l[0].Details.Hooks[0], s.http.URL)
	body := `{"pipeline_id":"./` + ids[0] + `","event":"start"}`
	for _, attempt := range []string{"2", "99999999999999999999"} {
		if a := s.do("POST", strings.Replace(hook, "attempt=1", "attempt="+attempt, 1), body, asJSON); a.status != http.StatusOK || s.status(flow, owner).State != "QUEUED" {
			t.Errorf("attempt %s: %d %s", attempt, a.status, a.body)
		}
	}
	if a := s.do("POST", hook, body, asJSON); a.status != http.StatusOK || s.status(flow, owner).State != "INPROGRESS" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := s.do("POST", hook, strings.Replace(body, ids[0], ids[0]+"~1", 1), asJSON); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := s.do("POST", "/source/"+flow+"/cancel", "", "Auth-Token: "+owner); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if l := list(); len(l) != 0 {
		t.Errorf("%d pipelines of a flow that has ended", len(l))
	}
}

// httpService is a pipelines service that is there, and does nothing.
func httpService(t *testing.T) string {
	t.Helper()
	return (&server{T: t}).listen(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
}
