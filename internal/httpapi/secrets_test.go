package httpapi_test

import (
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/registry"
)

// TestAddressesOfSources: of a public dataset strangers see no query, user and password
// of an address, on any route; its owner sees them.
func TestAddressesOfSources(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op", runner: registry.External})
	token := s.token("me", auth.ServiceSource)
	body := spec("me", "a", "published", "https://example.com/t.csv?sig=hunter2&x=1#hunter2")
	for _, b := range []string{body, strings.ReplaceAll(strings.Replace(body, "sig=hunter2", "sig=hunter2b", 1), "?", `\u003f`)} {
		s.upload(b, token)
	}
	flow := "me/a/1"
	for id := range s.status(flow, token).Pipelines {
		s.news(id, `"event":"finish","errors":["Get \"https://u:hunter2@example.com/t.csv?sig=hunter2\u0026x=hunter2\": refused"],"log":["read https://example.com/t.csv?sig=hunter2"]`)
	}
	for _, path := range []string{"", "/plan", "/events", "/diff/2", "/pipelines/a/log", "/pipelines/validation_report/log"} {
		for name, caller := range map[string]string{"a stranger": "", "another": s.token("you", ""), "nobody": "a.b.c"} {
			if a := s.get("/source/"+flow+path, caller); strings.Contains(a.body, "hunter2") {
				t.Errorf("%s shows %s: %s", path, name, a.body)
			} else if path == "" && !strings.Contains(a.body, "https://example.com/t.csv") {
				t.Errorf("%s does not show %s the address: %s", path, name, a.body)
			}
		}
	}
	for _, path := range []string{"", "/plan", "/diff/2"} {
		if a := s.get("/source/"+flow+path, token); !strings.Contains(a.body, "hunter2") {
			t.Errorf("%s does not show the owner: %.300s", path, a.body)
		}
	}
}
