package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/datahq/specstore/internal/testkit"
)

// fuzzed is the routes without a network.
type fuzzed struct {
	*servicetest.Fixture
	handler http.Handler
}

func startFuzz(f *testing.F) *fuzzed {
	s := servicetest.New(f, servicetest.Options{PublicURL: "https://specstore.example"})
	return &fuzzed{s, httpapi.New(httpapi.Config{
		Service: s.Service, Events: s.Registry, Packages: s.Packages, Raw: s.Raw, Verifier: s.Verifier, Issuer: s.Issuer,
		PublicURL: "https://specstore.example", UpdateToken: "op", Now: time.Now, Log: s.Log,
	})}
}

// post sends a body and gives the answer, which is an object of JSON.
func (s *fuzzed) post(t *testing.T, path string, body []byte, header, value string) (status int, answer map[string]any) {
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(string(body)))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(header, value)
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, req)
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return w.Code, answer
}

func (s *fuzzed) rows(t *testing.T) (n int) {
	if err := s.DB.Read(t.Context(), func(ctx context.Context, tx sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT (SELECT COUNT(*) FROM dataset) + (SELECT COUNT(*) FROM dataset_revision) + (SELECT COUNT(*) FROM owner)`).Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// FuzzUploadBody: whatever is uploaded with a good token is accepted, or refused in
// the form that clients know and with nothing left behind.
func FuzzUploadBody(f *testing.F) {
	s := startFuzz(f)
	token := testkit.Must(s.Issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 3}, time.Now()))(f)
	good := spec("me", "a", "published", somewhere)
	for _, seed := range []string{
		good, "", "null", "{}", `{"meta":1}`, `{"meta":{"ownerid":"me"}}`, `{"meta":{"ownerid":"\u0000"}}`, `{"meta":{"ownerid":"me","dataset":"\u0000"}}`,
		strings.Replace(good, "{", `{"schedule":"every 1d",`, 1), strings.Replace(good, "{", `{"schedule":{"cron":"0 6 * * 1"},`, 1),
		strings.Replace(good, "{", `{"outputs":[{"kind":"zip","parameters":{"out-file":"x.zip"}}],"processing":[{"input":"t","output":"u"}],`, 1),
		"\xef\xbb\xbf" + good, `{"a":1e999}`, strings.Repeat(`[`, 200),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := s.rows(t)
		status, answer := s.post(t, "/source/upload", body, "Auth-Token", token)
		errors, _ := answer["errors"].([]any)
		switch {
		case status == http.StatusOK:
			if answer["success"] != true || answer["flow_id"] == nil || len(errors) != 0 {
				t.Errorf("accepted: %v", answer)
			}
		case !slices.Contains([]int{400, 403, 413}, status) || answer["success"] != false || answer["flow_id"] != nil || answer["dataset_id"] != nil || len(errors) == 0:
			t.Errorf("%d %v", status, answer)
		case s.rows(t) != before:
			t.Errorf("%d %v left something behind", status, answer)
		}
	})
}

// FuzzUpdateBody: whatever an operator sends as news is taken, or refused with a
// reason; it is never our fault.
func FuzzUpdateBody(f *testing.F) {
	s := startFuzz(f)
	n := registry.New{OwnerID: "me", Dataset: "a", Spec: json.RawMessage(`{}`), Runner: registry.External, MaxDatasets: -1, Plan: func(n int64, _ time.Time, _ bool) ([]registry.PlannedPipeline, error) {
		return []registry.PlannedPipeline{{ID: fmt.Sprintf("me/a/%d/x", n)}, {ID: fmt.Sprintf("me/a/%d", n), Dependencies: []string{fmt.Sprintf("me/a/%d/x", n)}}}, nil
	}}
	testkit.Must(s.Registry.CreateRevision(context.Background(), n))(f)
	for _, seed := range []string{
		"", "null", "[]", `{"pipeline_id":"./me/a/1/x","event":"start"}`, `{"pipeline":"me/a/1/x","event":"progress","log":["x"],"stats":{"a":1e400},"errors":null}`,
		`{"pipeline":"me/a/1/x\u0000","event":"finish","success":"false"}`, `{"pipeline":"me/a/1","event":"finish","success":true,"stats":{"bytes":1},"errors":["\ud800"]}`,
		`{"pipeline":7,"event":{}}`, `{"pipeline":"x","event":"queue"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		status, answer := s.post(t, "/source/update", body, "Authorization", "Bearer op")
		switch status {
		case http.StatusOK:
			if answer["id"] == nil || answer["status"] == nil {
				t.Errorf("%v", answer)
			}
		case http.StatusNotFound, http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		default:
			t.Errorf("%d %v", status, answer)
		}
	})
}
