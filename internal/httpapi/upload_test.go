package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/testkit"
)

const (
	empty  = "Received empty contents (make sure your content-type is correct)"
	denied = "No token or token not authorised for owner"
)

// TestUploadRefusals: the first check that fails decides, clients know the texts,
// and nothing is left behind.
func TestUploadRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	s.upload(strings.Replace(spec("you", "theirs", "published", somewhere), `"meta":{`, `"meta":{"owner":"taken",`, 1), s.sign(auth.Claims{UserID: "you", UserName: "taken", Service: auth.ServiceSource, MaxDatasets: 10}))
	theirs := s.file("you", small)

	me := s.token("me", auth.ServiceSource)
	none := s.sign(auth.Claims{UserID: "me", Service: auth.ServiceSource})
	good := spec("me", "a", "published", somewhere)
	with := func(more string) string { return strings.Replace(good, "{", "{"+more+",", 1) }
	owned := func(name string) string { return strings.Replace(good, `"meta":{`, `"meta":{"owner":"`+name+`",`, 1) }
	const key = "Idempotency-Key: "
	for _, c := range []struct {
		name, token, body string
		status            int
		errors            []string // the first ones; each by its beginning
		headers           []string // instead of the content type
	}{
		{name: "no body", token: me, status: 400, errors: []string{empty}},
		{name: "null", token: me, body: " null\n", status: 400, errors: []string{empty}},
		{name: "empty object", token: me, body: "{}", status: 400, errors: []string{empty}},
		{name: "empty object with blanks", token: me, body: "{ \n}", status: 400, errors: []string{empty}},
		{name: "no content type", token: me, body: good, status: 400, errors: []string{empty}, headers: []string{key + "x"}},
		{name: "wrong content type", token: me, body: good, status: 400, errors: []string{empty}, headers: []string{"Content-Type: text/plain"}},
		{name: "not a content type", token: me, body: good, status: 400, errors: []string{empty}, headers: []string{"Content-Type: ;;/json"}},
		{name: "not JSON", token: me, body: "{\"a\":\n1,}", status: 400, errors: []string{"not JSON: line 2, column "}},
		{name: "not JSON, no token", body: "{", status: 400, errors: []string{"not JSON: line 1, column "}},
		{name: "two values", token: me, body: good + "{}", status: 400, errors: []string{"not JSON: line "}},
		{name: "a list", token: me, body: "[1]", status: 400, errors: []string{"the document must be a JSON object"}},
		{name: "a key twice", token: me, body: `{"meta":{"a":1,"a":2}}`, status: 400, errors: []string{"not JSON: line 1, column "}},
		{name: "not UTF-8", token: me, body: "{\"meta\":\"\xff\"}", status: 400, errors: []string{"not JSON: line 1, column "}},
		{name: "too deep", token: me, body: strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), status: 400, errors: []string{"line 1, column 500: the document is nested deeper than 100 levels"}},
		{name: "too large", token: me, body: with(`"x":"` + strings.Repeat("x", 16<<20) + `"`), status: 413, errors: []string{"the body is larger than 16777216 bytes"}},
		{name: "no meta", token: me, body: `{"inputs":[]}`, status: 400, errors: []string{"Missing owner in spec"}},
		{name: "meta is a list", token: me, body: `{"meta":["ownerid"]}`, status: 400, errors: []string{"Missing owner in spec"}},
		{name: "owner is a number", token: me, body: `{"meta":{"ownerid":1}}`, status: 400, errors: []string{"Missing owner in spec"}},
		{name: "owner is empty, no token", body: `{"meta":{"ownerid":""}}`, status: 400, errors: []string{"Missing owner in spec"}},
		{name: "no token", body: good, status: 401, errors: []string{denied}},
		{name: "no token, and nothing is right", body: `{"meta":{"ownerid":"me"},"schedule":1}`, status: 401, errors: []string{denied}},
		{name: "not a token", token: "a.b.c", body: good, status: 401, errors: []string{denied}},
		{name: "a long token", token: strings.Repeat("x", 100_000), body: good, status: 401, errors: []string{denied}},
		{name: "changed signature", token: me[:len(me)-6] + "AAAAAA", body: good, status: 401, errors: []string{denied}},
		{name: "user token", token: s.token("me", ""), body: good, status: 401, errors: []string{denied}},
		{name: "token of another service", token: s.token("me", auth.ServiceRawstore), body: good, status: 401, errors: []string{denied}},
		{name: "expired", token: testkit.Must(s.issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, Expires: time.Hour}, time.Now().Add(-2*time.Hour)))(t), body: good, status: 401, errors: []string{denied + ": the token has expired"}},
		{name: "other owner", token: s.token("you", auth.ServiceSource), body: good, status: 403, errors: []string{denied}},
		{name: "no datasets, and nothing is right", token: none, body: `{"meta":{"ownerid":"me"},"schedule":1}`, status: 403, errors: []string{"Max datasets for user exceeded plan limit (0)"}},
		{name: "schedule is a number", token: me, body: with(`"schedule":1`), status: 400, errors: []string{"Schedule should be a string"}},
		{name: "schedule without every", token: me, body: with(`"schedule":"often"`), status: 400, errors: []string{"Schedule should start with 'every'"}},
		{name: "schedule's unit", token: me, body: with(`"schedule":"every 1y"`), status: 400, errors: []string{"Bad time unit for schedule, only s/m/h/d/w are allowed"}},
		{name: "schedule's number", token: me, body: with(`"schedule":"every +1d"`), status: 400, errors: []string{"Failed to parse time number"}},
		{name: "schedule's overflow", token: me, body: with(`"schedule":"every 99999999999999999999d"`), status: 400, errors: []string{"Failed to parse time number"}},
		{name: "schedule too short", token: me, body: with(`"schedule":"every 59s"`), status: 400, errors: []string{"Can't schedule tasks for less than one minute"}},
		{name: "schedule before the rest", token: me, body: `{"meta":{"ownerid":"me"},"schedule":1}`, status: 400, errors: []string{"Schedule should be a string"}},
		{name: "invalid", token: me, body: `{"meta":{"ownerid":"me","dataset":"a b"}}`, status: 400, errors: []string{"Validation failed for contents", "/meta/dataset: ", "/inputs: "}},
		{name: "no dataset", token: me, body: strings.Replace(good, `"dataset"`, `"x"`, 1), status: 400, errors: []string{"Validation failed for contents", "/meta/dataset: is required"}},
		{name: "dataset of a route", token: me, body: spec("me", "latest", "published", somewhere), status: 400, errors: []string{"Validation failed for contents", "/meta/dataset: "}},
		{name: "another's name", token: me, body: owned("taken"), status: 400, errors: []string{"Validation failed for contents", `/meta/owner: the name "taken" is not yours: leave it out, or write your owner ID`}},
		{name: "nobody's name", token: me, body: owned("free"), status: 400, errors: []string{"Validation failed for contents", `/meta/owner: the name "free" is not yours`}},
		{name: "another's ID as a name", token: me, body: owned("you"), status: 400, errors: []string{"Validation failed for contents", `/meta/owner: the name "you" is not yours`}},
		{name: "a reserved name", token: me, body: owned("Login"), status: 400, errors: []string{"Validation failed for contents", `/meta/owner: the name "Login" is reserved`}},
		{name: "a name that is none, and the rest", token: me, body: strings.Replace(owned("free"), `"dataset":"a"`, `"dataset":"a b"`, 1), status: 400, errors: []string{"Validation failed for contents", `/meta/owner: `, `/meta/dataset: `}},
		{name: "an ID that the stores reserve", token: s.token("_tmp", auth.ServiceSource), body: spec("_tmp", "a", "published", somewhere), status: 400, errors: []string{"Validation failed for contents", `/meta/ownerid: the name "_tmp" is reserved`}},
		{name: "an ID that a route has", token: s.token("api", auth.ServiceSource), body: spec("api", "a", "published", somewhere), status: 400, errors: []string{"Validation failed for contents", `/meta/ownerid: the name "api" is reserved`}},
		{name: "an ID of dots", token: s.token("..", auth.ServiceSource), body: spec("..", "a", "published", somewhere), status: 400, errors: []string{"Validation failed for contents", `/meta/ownerid: must not consist of dots`}},
		{name: "a dataset that a route has", token: me, body: spec("me", "Map", "published", somewhere), status: 400, errors: []string{"Validation failed for contents", `/meta/dataset: the name "Map" is reserved`}},
		{name: "local file", token: me, body: spec("me", "a", "published", "/etc/passwd"), status: 400, errors: []string{"Validation failed for contents", "/inputs/0/parameters/resource-mapping/t.csv: "}},
		{name: "file scheme", token: me, body: spec("me", "a", "published", "file:///etc/passwd"), status: 400, errors: []string{"Validation failed for contents"}},
		{name: "another's file", token: me, body: spec("me", "a", "published", theirs), status: 400, errors: []string{"Validation failed for contents", "/inputs/0/parameters/resource-mapping/t.csv: the uploaded file is another owner's"}},
		{name: "a step that is none", token: me, body: with(`"processing":[{"input":"t","output":"t","dpp":[{"run":"rm"}]}]`), status: 400, errors: []string{
			"Validation failed for contents", `/processing/0/dpp/0/run: there is no processor "rm"`,
		}},
		{name: "a part of a file of this machine", token: me, body: strings.Replace(good, `"path":"t.csv"`, `"path":["t.csv","u.csv"]`, 1), status: 400, errors: []string{
			"Validation failed for contents", "/inputs/0/url: must be an http or https URL",
		}},
		{name: "long idempotency key", token: me, body: good, status: 400, errors: []string{"the idempotency key is longer than 255 bytes"}, headers: []string{asJSON, key + strings.Repeat("x", 256)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := *s
			s.T = t
			headers := c.headers
			if headers == nil {
				headers = []string{asJSON}
			}
			if c.token != "" {
				headers = append(slices.Clone(headers), "Auth-Token: "+c.token)
			}
			a := s.do("POST", "/source/upload", c.body, headers...)
			// A dry run refuses the same.
			if dry := s.do("POST", "/source/plan", c.body, headers...); c.name != "long idempotency key" && (dry.status != a.status || dry.body != a.body) {
				t.Errorf("a dry run: %d %.300s", dry.status, dry.body)
			}
			var out struct {
				Success   *bool           `json:"success"`
				DatasetID json.RawMessage `json:"dataset_id"`
				FlowID    json.RawMessage `json:"flow_id"`
				Errors    []string        `json:"errors"`
			}
			if err := json.Unmarshal([]byte(a.body), &out); err != nil || len(out.Errors) < len(c.errors) {
				t.Fatalf("%d %.500s", a.status, a.body)
			}
			a.checkError(t, "", c.status, strings.Join(out.Errors, "\n"))
			if out.Success == nil || *out.Success || string(out.DatasetID) != "null" || string(out.FlowID) != "null" {
				t.Errorf("not a refusal: %.300s", a.body)
			}
			for i, want := range c.errors {
				if !strings.HasPrefix(out.Errors[i], want) || i == 0 && len(c.errors) == 1 && !strings.HasSuffix(want, " ") && out.Errors[0] != want {
					t.Errorf("errors[%d] is %q, want %q", i, out.Errors[i], want)
				}
			}
			if challenge := a.header.Get("WWW-Authenticate"); (c.status == 401) != (challenge == "Bearer") {
				t.Errorf("WWW-Authenticate is %q", challenge)
			}
		})
	}
	t.Cleanup(func() {
		if list, err := s.store.Datasets(t.Context(), registry.DatasetPage{OwnerID: "me", Limit: 100}); len(list) != 0 {
			t.Errorf("refusals left %v behind, %v", list, err)
		}
	})
}

// TestDryRun: the pipelines of what would be the next revision, and nothing is stored.
func TestDryRun(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.token("me", auth.ServiceSource)
	for number := 1; number <= 2; number++ {
		for range 2 {
			a := s.do("POST", "/source/plan", spec("me", "a", "published", somewhere), asJSON, "Auth-Token: "+token)
			var pipelines [][2]json.RawMessage
			if err := json.Unmarshal([]byte(a.body), &pipelines); err != nil || a.status != http.StatusOK || len(pipelines) != 7 {
				t.Fatalf("%d %.300s", a.status, a.body)
			}
			if last, want := string(pipelines[6][0]), fmt.Sprintf(`"me/a/%d"`, number); last != want {
				t.Errorf("the last pipeline is %s, not %s", last, want)
			}
		}
		if flow := s.upload(spec("me", "a", "published", somewhere), token); flow != fmt.Sprintf("me/a/%d", number) {
			t.Errorf("then %s", flow)
		}
	}
}

// TestDryRunYAML: a spec in YAML leads to what the same one in JSON does.
func TestDryRunYAML(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := "Auth-Token: " + s.token("me", auth.ServiceSource)
	const text = `
meta: {ownerid: me, dataset: a, findability: published}
inputs:
- kind: datapackage
  parameters:
    resource-mapping: {t.csv: "http://example.com/t.csv"}
    descriptor:
      resources:
      - {name: t, path: t.csv, schema: {fields: [{name: id, type: integer}, {name: name, type: string}]}}
`
	at := regexp.MustCompile(`"(modified|created|update_time)":"[^"]*"`)
	want := s.do("POST", "/source/plan", spec("me", "a", "published", somewhere), asJSON, token)
	for _, kind := range []string{"application/yaml", "text/yaml; charset=utf-8"} {
		got := s.do("POST", "/source/plan", text, "Content-Type: "+kind, token)
		if got.status != http.StatusOK || at.ReplaceAllString(got.body, "") != at.ReplaceAllString(want.body, "") {
			t.Errorf("%s: %d %.300s", kind, got.status, got.body)
		}
	}
	for _, bad := range []string{"a: &a [*a]", "meta: !!python/object {}", "[", "meta: {ownerid: 5}"} {
		if got := s.do("POST", "/source/plan", bad, "Content-Type: application/yaml", token); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %.300s", bad, got.status, got.body)
		}
	}
}

// TestNotes: an output that the runner does not make is accepted, and said.
func TestNotes(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	body := strings.Replace(spec("me", "a", "published", somewhere), "{", `{"outputs":[{"kind":"npm"},{"kind":"parquet"}],`, 1)
	a := s.do("POST", "/source/upload", body, asJSON, "Auth-Token: "+s.token("me", auth.ServiceSource))
	var out struct{ Notes []string }
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != http.StatusOK || len(out.Notes) != 1 || !strings.Contains(out.Notes[0], `"npm"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestUploadAccepted: what is accepted, and how a token may come.
func TestUploadAccepted(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 1})
	good := spec("me", "a", "published", somewhere)
	for i, c := range []struct{ name, path, body, contentType, header string }{
		{"usual", "/source/upload", good, "application/json", "Auth-Token: " + token},
		{"charset", "/source/upload", good, "Application/JSON; charset=utf-8", "Auth-Token: " + token},
		{"parameters that are none", "/source/upload", good, "application/json; =", "Auth-Token: " + token},
		{"suffix", "/source/upload", good, "application/vnd.api+json", "Auth-Token: " + token},
		{"bearer", "/source/upload", good, "application/json", "Authorization: bearer " + token},
		{"in the query", "/source/upload?jwt=" + token, good, "application/json", "X-None: x"},
		{"byte order mark", "/source/upload", "\ufeff" + good, "application/json", "Auth-Token: " + token},
	} {
		a := s.do("POST", c.path, c.body, "Content-Type: "+c.contentType, c.header)
		want := fmt.Sprintf(`{"success":true,"dataset_id":"me/a","flow_id":"me/a/%d","errors":[]}`, i+1)
		if a.status != http.StatusOK || strings.TrimSpace(a.body) != want {
			t.Errorf("%s: %d %s, want %s", c.name, a.status, a.body, want)
			continue
		}
		// It is kept in such a way that it can be shown, and so run.
		if st := s.status(fmt.Sprintf("me/a/%d", i+1), ""); !strings.Contains(string(st.Spec), `"dataset":"a"`) {
			t.Errorf("%s: the spec that is kept is %.100s", c.name, st.Spec)
		}
	}
	// The limit is for new datasets alone.
	s.do("POST", "/source/upload", spec("me", "b", "published", somewhere), asJSON, "Auth-Token: "+token).
		checkError(t, "one dataset more", http.StatusForbidden, "Max datasets for user exceeded plan limit (1)")
}

// TestOwnerName: a name is whose token has it, whoever had it before.
func TestOwnerName(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	for _, owner := range []string{"first", "second"} {
		s.upload(spec(owner, "a", "published", somewhere), s.sign(auth.Claims{UserID: owner, UserName: "ann", Service: auth.ServiceSource, MaxDatasets: 1}))
	}
	names := map[string]string{}
	for _, owner := range []string{"first", "second"} {
		for _, d := range testkit.Must(s.store.Datasets(t.Context(), registry.DatasetPage{OwnerID: owner, Limit: 100}))(t) {
			names[d.ID] = d.Owner
		}
	}
	if names["first/a"] != "" || names["second/a"] != "ann" || len(names) != 2 {
		t.Errorf("%v", names)
	}
}

// TestIdempotency: a key makes repeats one, and another body under it is refused.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.sign(auth.Claims{UserID: "me", UserName: "ann", Service: auth.ServiceSource, MaxDatasets: 10})
	for _, c := range []struct {
		name, key, dataset string
		status             int
		want               string
	}{
		{"first", "k", "a", 200, `"flow_id":"me/a/1"`},
		{"again", "k", "a", 200, `"flow_id":"me/a/1"`},
		{"another body", "k", "b", 409, "the idempotency key was used for another upload"},
		{"another key", "l", "a", 200, `"flow_id":"me/a/2"`},
		{"no key", "", "a", 200, `"flow_id":"me/a/3"`},
	} {
		body := strings.Replace(spec("me", c.dataset, "published", somewhere), `"meta":{`, `"meta":{"owner":"ann",`, 1)
		a := s.do("POST", "/source/upload", body, asJSON, "Auth-Token: "+token, "Idempotency-Key: "+c.key)
		if a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.status, a.body, c.status, c.want)
		}
	}
}

// TestConcurrentUploads: however many pushes race, the numbers are dense and the
// limit holds.
func TestConcurrentUploads(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 2})
	const pushes = 8
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted := map[string]bool{}
	refused := 0
	for i := range 2 * pushes {
		wg.Go(func() {
			dataset := "same"
			if i%2 == 1 {
				dataset = fmt.Sprintf("new-%d", i)
			}
			a := s.do("POST", "/source/upload", spec("me", dataset, "published", somewhere), asJSON, "Auth-Token: "+token)
			var out struct {
				FlowID string `json:"flow_id"`
			}
			err := json.Unmarshal([]byte(a.body), &out)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && a.status == http.StatusOK:
				accepted[out.FlowID] = true
			case a.status == http.StatusForbidden:
				refused++
			default:
				t.Errorf("%d %s, %v", a.status, a.body, err)
			}
		})
	}
	wg.Wait()
	datasets := testkit.Must(s.store.Datasets(t.Context(), registry.DatasetPage{OwnerID: "me", Limit: 100}))(t)
	if len(datasets) != 2 || len(accepted)+refused != 2*pushes {
		t.Errorf("%d datasets under a limit of 2; %d accepted, %d refused", len(datasets), len(accepted), refused)
	}
	for _, d := range datasets {
		for n := range d.LastRevision {
			if id := fmt.Sprintf("%s/%d", d.ID, n+1); !accepted[id] {
				t.Errorf("%s was told to nobody", id)
			}
		}
	}
}

// TestAuthServerDown: reads go on, and what needs a token says that it cannot be
// judged, of what is there and of what is not alike.
func TestAuthServerDown(t *testing.T) {
	t.Parallel()
	s := start(t, options{authServer: "http://127.0.0.1:1"})
	token := s.token("me", auth.ServiceSource)
	a := s.do("POST", "/source/upload", spec("me", "a", "published", somewhere), asJSON, "Auth-Token: "+token)
	a.checkError(t, "upload", http.StatusServiceUnavailable, "auth server")
	if a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"success":false`) {
		t.Errorf("%v %s", a.header, a.body)
	}
	s.create("me", "public", "published", "embedded")
	s.create("me", "hidden", "private", "embedded")
	for path, want := range map[string]int{"public/1": 200, "hidden/1": 503, "none/1": 503} {
		if a := s.get("/source/me/"+path, token); a.status != want {
			t.Errorf("%s: %d %s, want %d", path, a.status, a.body, want)
		}
	}
	s.get("/source/me/hidden/1", "").checkError(t, "without a token", http.StatusNotFound, "no revision")
}
