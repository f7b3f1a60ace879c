package httpapi_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/testkit"
)

// TestHooks sends what real pipelines services sent, in its order, twice, and turned
// round: each time the flow ends as the hooks say, with its stats, errors and logs.
func TestHooks(t *testing.T) {
	t.Parallel()
	files := testkit.Must(filepath.Glob(filepath.Join(testkit.Shared(t, "cases", "hooks"), "*.json")))(t)
	replayed := 0
	for _, file := range files {
		var captured struct {
			Posts []struct{ Body json.RawMessage }
		}
		if err := json.Unmarshal(testkit.Must(os.ReadFile(file))(t), &captured); err != nil {
			t.Fatal(err)
		}
		if len(captured.Posts) == 0 {
			continue // services that send no hooks
		}
		replayed++
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			for way, posts := range map[string][]struct{ Body json.RawMessage }{
				"as sent": captured.Posts, "twice": slices.Repeat(captured.Posts, 2),
				"turned round": func() []struct{ Body json.RawMessage } {
					list := slices.Clone(captured.Posts)
					slices.Reverse(list)
					return list
				}(),
			} {
				s := start(t, options{updateToken: "op"})
				var planned []registry.PlannedPipeline
				type finish struct {
					Success bool
					Errors  []string
					Stats   json.RawMessage
				}
				ends := map[string]finish{}
				// Services of other owners name pipelines with fewer parts; here each has four.
				id := func(raw string) string {
					name := strings.TrimPrefix(raw, "./")
					return "own/ds/1/" + name[strings.LastIndex(name, "/")+1:]
				}
				var bodies []map[string]json.RawMessage
				logged := false
				for _, p := range posts {
					var body map[string]json.RawMessage
					var pipeline, event string
					if err := json.Unmarshal(p.Body, &body); err != nil {
						t.Fatal(err)
					}
					_ = json.Unmarshal(body["pipeline_id"], &pipeline)
					_ = json.Unmarshal(body["event"], &event)
					name := id(pipeline)
					logged = logged || len(body["log"]) > len("[]")
					if !slices.ContainsFunc(planned, func(p registry.PlannedPipeline) bool { return p.ID == name }) {
						planned = append(planned, registry.PlannedPipeline{ID: name, Title: name})
					}
					if event == "finish" {
						var f finish
						if err := json.Unmarshal(p.Body, &f); err != nil {
							t.Fatal(err)
						}
						ends[name] = f
					}
					body["pipeline_id"] = json.RawMessage(`"./` + name + `"`)
					bodies = append(bodies, body)
				}
				flow := s.createPlanned("own", "ds", planned)
				for _, body := range bodies {
					a := s.do("POST", "/source/update", string(testkit.Must(json.Marshal(body))(t)), asJSON, "Authorization: Bearer op")
					if a.status != http.StatusOK {
						t.Fatalf("%s: %v: %d %s", way, body, a.status, a.body)
					}
				}
				st := s.status(flow, "")
				want := "SUCCEEDED"
				for name, end := range ends {
					p := st.Pipelines[name]
					state := "SUCCEEDED"
					if !end.Success {
						state, want = "FAILED", "FAILED"
					}
					if p.Status != state || !slices.Equal(p.ErrorLog, append([]string{}, end.Errors...)) || compact(p.Stats) != compact(end.Stats) {
						t.Errorf("%s: %s is %s %q %s, want %s %q %s", way, name, p.Status, p.ErrorLog, p.Stats, state, end.Errors, end.Stats)
					}
				}
				if st.State != want {
					t.Errorf("%s: the flow is %s, not %s", way, st.State, want)
				}
				if way == "as sent" && logged && len(st.Logs) == 0 {
					t.Errorf("%s: the log is lost", way)
				}
			}
		})
	}
	if replayed == 0 {
		t.Error("no hooks were replayed")
	}
}

// compact is JSON written in one way; "null" for none.
func compact(raw json.RawMessage) string {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return "null"
	}
	b, _ := json.Marshal(v)
	return string(b)
}
