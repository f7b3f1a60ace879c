package registry

import (
	"encoding/json"
	"reflect"
	"testing"

	strict "github.com/go-json-experiment/json" // which knows names by their case
)

// What is unfolded of JSON is what encoding/json makes of it, and nothing panics.
func FuzzUnfold(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a/b/1":{"title":"T","status":"success","stats":{"a":[1,"}",{"b":"\"]"}]},"error_log":["x\"y"],"error_count":1,"position":3}}`,
		` { "a" : { "title" : "\u00e9\\" , "status":"FAILED","started":5,"finished":6,"logs":["a","b"],"dependencies":["x"],"outputs":{},"progress":[1 ,2] } , "b": null } `,
		`{"a":{"error_log":null,"logs":null,"title":null,"status":null,"position":null}}`, `{"a":{"status":"odd"}}`, `{"a":1}`, `[]`, `{"a"`, `{"a":{"b":"`, `{"a":{"b":"\`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := unfold(text)
		if !json.Valid(text) {
			return
		}
		var want map[string]*row
		if strict.Unmarshal(text, &want) != nil || err != nil {
			// Which of the two is stricter with entries of other kinds does not matter.
			return
		}
		got := map[string]*row{}
		for _, p := range list {
			got[p.ID] = p
		}
		for id, w := range want {
			if w == nil {
				continue
			}
			w.ID = id
			g := got[id]
			if g == nil {
				t.Fatalf("%s: %q is missing", text, id)
			}
			for _, raw := range []*json.RawMessage{&w.Stats, &w.Progress, &w.Outputs} {
				if string(*raw) == "null" {
					*raw = nil
				}
			}
			if w.State != g.State || w.Position != g.Position || w.Title != g.Title || string(w.Stats) != string(g.Stats) ||
				!reflect.DeepEqual([]string(w.Errors), []string(g.Errors)) {
				t.Errorf("%s: %+v, want %+v", text, g, w)
			}
		}
	})
}
