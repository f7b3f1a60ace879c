package service_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/testkit"
)

// named is the spec of a dataset whose owner is said to have a name.
func named(owner, name, dataset string) []byte {
	s := strings.Replace(string(spec(dataset, "http://example.com/t.csv")), `"ownerid":"me"`, fmt.Sprintf(`"ownerid":%q`, owner), 1)
	if name != "" {
		s = strings.Replace(s, `"meta":{`, fmt.Sprintf(`"meta":{"owner":%q,`, name), 1)
	}
	return []byte(s)
}

func (f *fixture) signed(id, username string) string {
	return testkit.Must(f.Issuer.Sign(auth.Claims{UserID: id, UserName: username, Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(f.T)
}

// TestNames: a name is bound by the token that has it or by its profile, and by nobody
// else; absent, the bound name or the ID stands in.
func TestNames(t *testing.T) {
	t.Parallel()
	profiles := map[string]string{"pat": "pat-id", "ann": "ann-id", "empty": ""}
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		name := r.URL.Query().Get("username")
		id, found := profiles[name]
		if r.URL.Path != "/auth/get_profile" || name == "down" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"found": found, "profile": map[string]string{"id": id, "name": name}})
	}))
	defer server.Close()
	remote := testkit.Must(auth.NewRemoteKeys(server.URL, nil))(t)
	for _, c := range []struct {
		id, username, owner string
		remote              bool
		kind                errs.Kind // of the refusal; Internal is none
		bound               string
	}{
		{id: "ann-id", username: "ann", owner: "ann", bound: "ann"},
		{id: "ann-id", username: "ann", bound: "ann"},
		{id: "ann-id", username: "ann", owner: "ann-id"},
		{id: "ann-id", username: "ann", owner: "bob", kind: errs.Invalid},
		{id: "ann-id", username: "ann", owner: "Ann", kind: errs.Invalid},
		{id: "ann-id", owner: "ann", kind: errs.Invalid},
		{id: "ann-id", owner: "ann-id"},
		{id: "ann-id"},
		{id: "ann-id", username: "no name", owner: "no name", kind: errs.Invalid},
		{id: "ann-id", username: "login"},
		{id: "ann-id", username: "login", owner: "login", kind: errs.Invalid},
		{id: "pat-id", owner: "pat", remote: true, bound: "pat"},
		{id: "pat-id", username: "patricia", owner: "pat", remote: true, bound: "pat"},
		{id: "pat-id", owner: "ann", remote: true, kind: errs.Invalid},
		{id: "pat-id", owner: "nobody", remote: true, kind: errs.Invalid},
		{id: "pat-id", owner: "empty", remote: true, kind: errs.Unavailable},
		{id: "pat-id", owner: "down", remote: true, kind: errs.Unavailable},
		{id: "pat-id", username: "pat", remote: true, bound: "pat"},
	} {
		o := servicetest.Options{PublicURL: publicURL}
		if c.remote {
			o.Profiles = remote
		}
		f := &fixture{T: t, Fixture: servicetest.New(t, o)}
		body, token := named(c.id, c.owner, "a"), f.signed(c.id, c.username)
		_, dry := f.DryRun(t.Context(), token, body)
		r, err := f.Upload(t.Context(), token, body, "")
		if c.kind != errs.Internal {
			if !errs.Is(err, c.kind) || c.kind == errs.Invalid && !strings.Contains(errs.Detail(err), "/meta/owner: ") || errs.Detail(dry) != errs.Detail(err) {
				t.Errorf("%+v: %v, dry run %v", c, err, dry)
			}
			continue
		}
		if err != nil || dry != nil || r.Owner != c.bound {
			t.Errorf("%+v: %v, %v, %+v", c, err, dry, r)
		}
	}
	if asked == 0 {
		t.Error("no profile was asked for")
	}
}

// TestNamesRace: while the owner of a name pushes, those who write it into their specs
// are refused, and nothing of the owner's is. A database in which one of them had the
// name gives it back.
func TestNamesRace(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		testkit.Must(f.Registry.CreateRevision(t.Context(), registry.New{
			OwnerID: "squatter", Owner: "ann", Dataset: "old", Findability: "published", Spec: named("squatter", "ann", "old"), MaxDatasets: -1, Runner: registry.External,
			Plan: func(int64, time.Time, bool) ([]registry.PlannedPipeline, error) {
				return []registry.PlannedPipeline{{ID: "squatter/old/1", Title: "Package"}}, nil
			},
		}))(t)
		ann, squatter := f.signed("ann-id", "ann"), f.signed("squatter", "")
		const pushes = 6
		var wg sync.WaitGroup
		for i := range pushes {
			wg.Go(func() {
				if _, err := f.Upload(t.Context(), ann, named("ann-id", []string{"ann", ""}[i%2], fmt.Sprintf("d%d", i%3)), ""); err != nil {
					t.Errorf("the owner of the name: %v", err)
				}
			})
			wg.Go(func() {
				if _, err := f.Upload(t.Context(), squatter, named("squatter", "ann", fmt.Sprintf("d%d", i%3)), ""); !errs.Is(err, errs.Invalid) {
					t.Errorf("somebody else: %v", err)
				}
			})
		}
		wg.Wait()
		for owner, want := range map[string][2]any{"ann-id": {"ann", 3}, "squatter": {"", 1}} {
			list := testkit.Must(f.Registry.Datasets(t.Context(), registry.DatasetPage{OwnerID: owner, Limit: 10}))(t)
			if len(list) != want[1] || list[0].Owner != want[0] {
				t.Errorf("%s: %+v", owner, list)
			}
		}
		if o, err := f.Owner(t.Context(), "ann"); err != nil || o.ID != "ann-id" {
			t.Errorf("the name is %+v's: %v", o, err)
		}
		if _, err := f.Upload(t.Context(), squatter, named("squatter", "", "old"), ""); err != nil {
			t.Errorf("who had the name pushes on: %v", err)
		}
	})
}
