package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/datahq/specstore/internal/errs"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

// twoIssuers are made once: keys are slow to make.
var twoIssuers = sync.OnceValues(func() (pair [2]*Issuer, err error) {
	for n := range pair {
		text, err := GenerateKey()
		if err != nil {
			return pair, err
		}
		if pair[n], err = NewIssuer(text); err != nil {
			return pair, err
		}
	}
	return pair, nil
})

func issuers(t testing.TB) (a, b *Issuer) {
	t.Helper()
	pair, err := twoIssuers()
	if err != nil {
		t.Fatal(err)
	}
	return pair[0], pair[1]
}

// signed makes a token of any claims by any method.
func signed(t testing.TB, method jwt.SigningMethod, key any, body string, header map[string]any) string {
	t.Helper()
	var c jwt.MapClaims
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(method, c)
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func wantDenied(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || errs.Detail(err) != Denied {
		t.Errorf("error %v (%v, %q), want %v, %q", err, errs.KindOf(err), errs.Detail(err), kind, Denied)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	issuer, _ := issuers(t)
	verifier := &Verifier{Keys: issuer, Now: clock}
	at := func(d time.Duration) int64 { return noon.Add(d).Unix() }
	for _, test := range []struct {
		name, body string
		want       *Token // nil: refused
	}{
		{
			"as the old auth server signs",
			`{"userid":"me","permissions":{"max_dataset_num":10},"service":"source"}`,
			&Token{UserID: "me", Service: "source", MaxDatasets: 10},
		},
		{
			"user token", `{"userid":"me","username":"Mine","permissions":{"max_dataset_num":2,"max_private_storage_mb":5}}`,
			&Token{UserID: "me", UserName: "Mine", MaxDatasets: 2},
		},
		{"no permissions", `{"userid":"me"}`, &Token{UserID: "me"}},
		{"permissions null", `{"userid":"me","permissions":null}`, &Token{UserID: "me"}},
		{"no limit", `{"userid":"me","permissions":{}}`, &Token{UserID: "me"}},
		{"limit null", `{"userid":"me","permissions":{"max_dataset_num":null}}`, &Token{UserID: "me"}},
		{"limit below zero", `{"userid":"me","permissions":{"max_dataset_num":-3}}`, &Token{UserID: "me"}},
		{"limit with a fraction", `{"userid":"me","permissions":{"max_dataset_num":2.9}}`, &Token{UserID: "me", MaxDatasets: 2}},
		{"limit huge", `{"userid":"me","permissions":{"max_dataset_num":1e300}}`, &Token{UserID: "me", MaxDatasets: 1<<31 - 1}},
		{"limit as text", `{"userid":"me","permissions":{"max_dataset_num":"10"}}`, nil},
		{"permissions a list", `{"userid":"me","permissions":[]}`, nil},
		{"no user", `{"service":"source"}`, nil},
		{"user empty", `{"userid":""}`, nil},
		{"user a number", `{"userid":7}`, nil},
		{"service a list", `{"userid":"me","service":["source"]}`, nil},

		{"expires later", fmt.Sprintf(`{"userid":"me","exp":%d}`, at(time.Hour)), &Token{UserID: "me", Expires: noon.Add(time.Hour)}},
		{
			"expired within the leeway", fmt.Sprintf(`{"userid":"me","exp":%d}`, at(-59*time.Second)),
			&Token{UserID: "me", Expires: noon.Add(-59 * time.Second)},
		},
		{"expired", fmt.Sprintf(`{"userid":"me","exp":%d}`, at(-61*time.Second)), nil},
		{"expired at the epoch", `{"userid":"me","exp":0}`, nil},
		{"expiry as text", `{"userid":"me","exp":"tomorrow"}`, nil},
		{"not yet, within the leeway", fmt.Sprintf(`{"userid":"me","nbf":%d}`, at(59*time.Second)), &Token{UserID: "me"}},
		{"not yet", fmt.Sprintf(`{"userid":"me","nbf":%d}`, at(61*time.Second)), nil},
		{"issued ahead, within the leeway", fmt.Sprintf(`{"userid":"me","iat":%d}`, at(59*time.Second)), &Token{UserID: "me"}},
		{"issued ahead", fmt.Sprintf(`{"userid":"me","iat":%d}`, at(61*time.Second)), nil},

		{"audience", `{"userid":"me","aud":"elsewhere"}`, nil},
		{"audience a list", `{"userid":"me","aud":["a"]}`, nil},
		{"audience empty", `{"userid":"me","aud":""}`, nil},
		{"audience null", `{"userid":"me","aud":null}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := verifier.Verify(t.Context(), signed(t, jwt.SigningMethodRS256, issuer.key, test.body, nil))
			if strings.HasPrefix(test.name, "expired") && test.want == nil {
				wantExpired(t, err)
				return
			}
			if test.want == nil {
				wantDenied(t, err, errs.Unauthorized)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if *got != *test.want {
				t.Errorf("got %+v, want %+v", *got, *test.want)
			}
		})
	}
}

// wantExpired holds a refusal against the one of a token that was good.
func wantExpired(t *testing.T, err error) {
	t.Helper()
	if !errs.Is(err, errs.Unauthorized) || !errors.Is(err, ErrExpired) || errs.Detail(err) != Denied+": the token has expired" {
		t.Errorf("got %v, want that it has expired", err)
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	t.Parallel()
	issuer, stranger := issuers(t)
	verifier := &Verifier{Keys: issuer, Now: clock}
	const body = `{"userid":"me","service":"source","permissions":{"max_dataset_num":9}}`
	good := signed(t, jwt.SigningMethodRS256, issuer.key, body, nil)
	if _, err := verifier.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	other := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(body, "me", "you", 1)))
	der, err := x509.MarshalPKIXPublicKey(&issuer.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"empty":                    "",
		"the site's undefined":     "undefined",
		"dots":                     "..",
		"not ASCII":                "é.é.é",
		"other key":                signed(t, jwt.SigningMethodRS256, stranger.key, body, nil),
		"HS256 by the public PEM":  signed(t, jwt.SigningMethodHS256, []byte(issuer.PublicKeyPEM()), body, nil),
		"HS256 by the public DER":  signed(t, jwt.SigningMethodHS256, der, body, nil),
		"none":                     signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, body, nil),
		"RS384":                    signed(t, jwt.SigningMethodRS384, issuer.key, body, nil),
		"RS512":                    signed(t, jwt.SigningMethodRS512, issuer.key, body, nil),
		"PS256":                    signed(t, jwt.SigningMethodPS256, issuer.key, body, nil),
		"RS256 in lower case":      signed(t, jwt.SigningMethodRS256, issuer.key, body, map[string]any{"alg": "rs256"}),
		"critical header":          signed(t, jwt.SigningMethodRS256, issuer.key, body, map[string]any{"crit": []string{"b64"}, "b64": true}),
		"claims changed":           parts[0] + "." + other + "." + parts[2],
		"signature cut":            parts[0] + "." + parts[1] + "." + parts[2][:20],
		"signature missing":        parts[0] + "." + parts[1] + ".",
		"a part too many":          good + ".x",
		"blank before":             " " + good,
		"too long":                 signed(t, jwt.SigningMethodRS256, issuer.key, `{"userid":"`+strings.Repeat("m", maxToken)+`"}`, nil),
		"key offered in the token": signed(t, jwt.SigningMethodRS256, stranger.key, body, map[string]any{"jwk": map[string]string{"kty": "RSA"}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := verifier.Verify(t.Context(), token)
			wantDenied(t, err, errs.Unauthorized)
		})
	}
}

func TestIssuedTokensAreGood(t *testing.T) {
	t.Parallel()
	issuer, _ := issuers(t)
	verifier := &Verifier{Keys: issuer, Now: clock}
	text, err := issuer.Sign(Claims{UserID: "me", UserName: "Mine", MaxDatasets: 4, Expires: time.Hour}, noon)
	if err != nil {
		t.Fatal(err)
	}
	user, err := verifier.Verify(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Token{UserID: "me", UserName: "Mine", MaxDatasets: 4, Expires: noon.Add(time.Hour)}); *user != want {
		t.Errorf("got %+v, want %+v", *user, want)
	}
	text, err = issuer.Sign(Claims{UserID: "me"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if forDay, err := verifier.Verify(t.Context(), text); err != nil || !forDay.Expires.Equal(noon.Add(DefaultLife)) {
		t.Errorf("without a time: %+v, %v", forDay, err)
	}

	for _, service := range Services() {
		text, err := issuer.Authorize(user, service, noon)
		if err != nil {
			t.Fatal(err)
		}
		got, err := verifier.Verify(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Token{UserID: "me", UserName: "Mine", Service: service, MaxDatasets: 4, Expires: noon.Add(ServiceLife)}); *got != want {
			t.Errorf("%s: got %+v, want %+v", service, *got, want)
		}
		_, err = issuer.Authorize(got, ServiceSource, noon)
		wantDenied(t, err, errs.Unauthorized) // a service token is not swapped again
	}
	late := noon.Add(59 * time.Minute)
	text, err = issuer.Authorize(user, ServiceSource, late)
	if err != nil {
		t.Fatal(err)
	}
	later := &Verifier{Keys: issuer, Now: func() time.Time { return late }}
	if got, err := later.Verify(t.Context(), text); err != nil || !got.Expires.Equal(user.Expires) {
		t.Errorf("a service token of a user token with a minute left: %+v, %v", got, err)
	}
	_, err = issuer.Authorize(user, ServiceSource, noon.Add(time.Hour+30*time.Second))
	wantDenied(t, err, errs.Unauthorized)
	_, err = issuer.Authorize(nil, ServiceSource, noon)
	wantDenied(t, err, errs.Unauthorized)
	for _, service := range []string{"", "Source", "billing"} {
		if _, err := issuer.Authorize(user, service, noon); !errs.Is(err, errs.Invalid) {
			t.Errorf("service %q: %v", service, err)
		}
	}
	for _, c := range []Claims{
		{},
		{UserID: "me", MaxDatasets: -1},
		{UserID: "me", Expires: -1},
		{UserID: "me", Service: "billing"},
		{UserID: strings.Repeat("m", maxToken)},
	} {
		if _, err := issuer.Sign(c, noon); !errs.Is(err, errs.Invalid) {
			t.Errorf("signed %.60v: %v", c, err)
		}
	}
}

func TestKeySizes(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(small)})
	for _, bad := range []string{"", "hello", string(text), strings.Replace(string(text), "RSA PRIVATE", "PUBLIC", 2)} {
		if _, err := NewIssuer(bad); err == nil {
			t.Errorf("made an issuer of %.40q", bad)
		}
	}
	issuer, _ := issuers(t)
	if !strings.Contains(issuer.PublicKeyPEM(), "BEGIN PUBLIC KEY") {
		t.Errorf("public key %q", issuer.PublicKeyPEM())
	}
	key, err := jwt.ParseRSAPublicKeyFromPEM([]byte(issuer.PublicKeyPEM()))
	if err != nil || !key.Equal(&issuer.key.PublicKey) {
		t.Errorf("the public text is another key: %v", err)
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	kinds := []string{"", ServiceSource, ServiceRawstore, ServiceFrontend, "billing"}
	for _, test := range []struct {
		name   string
		action Action
		want   [5]bool
	}{
		{"read", Read, [5]bool{true, true, false, true, false}},
		{"upload", Upload, [5]bool{false, true, false, false, false}},
		{"manage", Manage, [5]bool{true, true, false, false, false}},
		{"raw write", RawWrite, [5]bool{false, true, true, false, false}},
		{"raw read", RawRead, [5]bool{false, true, true, true, false}},
		{"unknown", Action(99), [5]bool{}},
	} {
		for n, service := range kinds {
			token := &Token{UserID: "me", Service: service}
			if got := token.Allows(test.action, "me"); got != test.want[n] {
				t.Errorf("%s with service %q: %v", test.name, service, got)
			}
			err := token.Require(test.action, "you")
			if test.want[n] {
				wantDenied(t, err, errs.Forbidden)
			} else {
				wantDenied(t, err, errs.Unauthorized)
			}
		}
		wantDenied(t, (*Token)(nil).Require(test.action, "me"), errs.Unauthorized)
		if new(Token).Allows(test.action, "") {
			t.Errorf("%s: nobody owns nothing", test.name)
		}
	}
}

func TestFromRequest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ target, auth, header, want string }{
		{"/", "", "", ""},
		{"/?jwt=q", "", "", "q"},
		{"/?jwt=q", "", "h", "h"},
		{"/?jwt=q", "Bearer b", "h", "h"},
		{"/?jwt=q", "bearer  b ", "", "b"},
		{"/?jwt=q", "Basic b", "", "q"},
		{"/?jwt=q", "Bearer", "", "q"},
		{"/?jwt=%zz", "", "", ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = strings.TrimPrefix(strings.TrimPrefix(test.target, "/"), "?")
		if test.auth != "" {
			r.Header.Set("Authorization", test.auth)
		}
		if test.header != "" {
			r.Header.Set("Auth-Token", test.header)
		}
		if got := FromRequest(r); got != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
	}
}

func TestServerURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"auth", "http://auth"},
		{"auth:8000", "http://auth:8000"},
		{"localhost:8000", "http://localhost:8000"},
		{"127.0.0.1:8000", "http://127.0.0.1:8000"},
		{"[::1]:8000", "http://[::1]:8000"},
		{"auth.example.org", "https://auth.example.org"},
		{"10.0.0.1:80", "https://10.0.0.1:80"},
		{" auth.example.org:8443/base ", "https://auth.example.org:8443/base"},
		{"http://auth.example.org/", "http://auth.example.org/"},
		{"https://auth", "https://auth"},
		{"", ""},
		{"://", ""},
		{"ftp://auth", ""},
		{"file:///etc/passwd", ""},
		{"https://u:p@auth", ""},
		{"https://auth?x=1", ""},
		{"https://auth#x", ""},
		{"https://[::1", ""},
		{"a b", ""},
		{":8000", ""},
	} {
		got, err := ServerURL(test.in)
		switch {
		case test.want == "":
			if !errs.Is(err, errs.Invalid) || strings.Contains(err.Error(), "u:p") {
				t.Errorf("%q: %v, %v", test.in, got, err)
			}
		case err != nil || got.String() != test.want:
			t.Errorf("%q: %v, %v; want %s", test.in, got, err, test.want)
		}
	}
}

// server is an auth server whose answer can be changed.
type server struct {
	*httptest.Server
	asked atomic.Int32
	body  atomic.Value // string; empty: 503
}

func newServer(t *testing.T, body string) *server {
	s := new(server)
	s.body.Store(body)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		body, _ := s.body.Load().(string)
		if r.URL.Path != "/auth/public-key" || body == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s
}

// hands is a clock that is moved by hand.
type hands struct{ passed atomic.Int64 }

func (h *hands) now() time.Time          { return noon.Add(time.Duration(h.passed.Load())) }
func (h *hands) advance(d time.Duration) { h.passed.Add(int64(d)) }

func remote(t *testing.T, s *server) (*RemoteKeys, *hands) {
	t.Helper()
	keys, err := NewRemoteKeys(s.URL, s.Client())
	if err != nil {
		t.Fatal(err)
	}
	clock := new(hands)
	keys.now = clock.now
	return keys, clock
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before, after := issuers(t)
	auth := newServer(t, before.PublicKeyPEM())
	keys, clock := remote(t, auth)
	verifier := &Verifier{Keys: keys, Now: clock.now}
	sign := func(i *Issuer) string {
		text, err := i.Sign(Claims{UserID: "me"}, noon)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	check := func(token string, ok bool, asked int32) {
		t.Helper()
		_, err := verifier.Verify(t.Context(), token)
		if ok && err != nil {
			t.Error(err)
		}
		if !ok {
			wantDenied(t, err, errs.Unauthorized)
		}
		if got := auth.asked.Load(); got != asked {
			t.Errorf("the auth server was asked %d times, want %d", got, asked)
		}
	}
	if auth.asked.Load() != 0 {
		t.Error("asked before a key was needed")
	}
	check("undefined", false, 0) // not worth a key
	check(sign(before), true, 1)
	check(sign(before), true, 1)
	auth.body.Store(after.PublicKeyPEM())
	for range 100 { // bad signatures make no more than one request a minute
		check(sign(after), false, 1)
	}
	clock.advance(refreshEvery)
	check(signed(t, jwt.SigningMethodHS256, []byte(before.PublicKeyPEM()), `{"userid":"me"}`, nil), false, 1)
	check(sign(after), true, 2)
	check(sign(after), true, 2)
	check(sign(before), false, 2)
	clock.advance(refreshEvery)
	auth.body.Store("") // down: what is known stays good
	check(sign(before), false, 3)
	check(sign(after), true, 3)
	check(sign(before), false, 3)
}

func TestServerDownAtStart(t *testing.T) {
	t.Parallel()
	issuer, _ := issuers(t)
	auth := newServer(t, "")
	keys, clock := remote(t, auth)
	verifier := &Verifier{Keys: keys, Now: clock.now}
	token, err := issuer.Sign(Claims{UserID: "me"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := verifier.Verify(t.Context(), token); !errs.Is(err, errs.Unavailable) {
			t.Fatalf("got %v", err)
		}
	}
	if got := auth.asked.Load(); got != 1 {
		t.Errorf("asked %d times", got)
	}
	auth.body.Store(issuer.PublicKeyPEM())
	clock.advance(retryEvery)
	if _, err := verifier.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestManyAskOnce(t *testing.T) {
	t.Parallel()
	issuer, _ := issuers(t)
	auth := newServer(t, issuer.PublicKeyPEM())
	keys, _ := remote(t, auth)
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if _, err := keys.Key(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got := auth.asked.Load(); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

func TestBadKeysOfTheServer(t *testing.T) {
	t.Parallel()
	issuer, _ := issuers(t)
	// A modulus needs no factors to be sent.
	odd := func(bits uint) string {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	for name, body := range map[string]string{
		"a page":         "<html>log in</html>",
		"1024 bits":      odd(1024),
		"8193 bits":      odd(8193),
		"100,000 bits":   odd(100_000),
		"padded too far": issuer.PublicKeyPEM() + strings.Repeat("\n", maxKeyText),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, _ := remote(t, newServer(t, body))
			if _, err := keys.Key(t.Context()); !errs.Is(err, errs.Unavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
	keys, _ := remote(t, newServer(t, odd(8192)))
	if _, err := keys.Key(t.Context()); err != nil {
		t.Errorf("8192 bits: %v", err)
	}
}

func TestRedirectsStayWithTheHost(t *testing.T) {
	t.Parallel()
	issuer, _ := issuers(t)
	auth := newServer(t, issuer.PublicKeyPEM())
	hop := func(to string) *server {
		s := new(server)
		s.Server = httptest.NewServer(http.RedirectHandler(to, http.StatusFound))
		t.Cleanup(s.Close)
		return s
	}
	keys, _ := remote(t, hop(auth.URL+"/auth/public-key"))
	if _, err := keys.Key(t.Context()); err != nil {
		t.Errorf("same host: %v", err)
	}
	keys, _ = remote(t, hop(strings.Replace(auth.URL, "127.0.0.1", "localhost", 1)+"/auth/public-key"))
	if _, err := keys.Key(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("other host: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	issuer, _ := issuers(f)
	verifier := &Verifier{Keys: issuer, Now: clock}
	good, err := issuer.Sign(Claims{UserID: "me"}, noon)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("..")
	f.Add("eyJhbGciOiJub25lIn0.eyJ1c2VyaWQiOiJtZSJ9.")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := verifier.Verify(t.Context(), text)
		if err == nil && (token.UserID != "me" || !strings.HasPrefix(text, good[:strings.LastIndexByte(good, '.')])) {
			t.Errorf("%q passed as %+v", text, token)
		}
		if err != nil && (!errs.Is(err, errs.Unauthorized) || errs.Detail(err) != Denied) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// BenchmarkRefused: each way to be refused takes about as long as any other.
func BenchmarkRefused(b *testing.B) {
	issuer, stranger := issuers(b)
	verifier := &Verifier{Keys: issuer, Now: clock}
	const body = `{"userid":"me","service":"source"}`
	for name, token := range map[string]string{
		"signature": signed(b, jwt.SigningMethodRS256, stranger.key, body, nil),
		"expired":   signed(b, jwt.SigningMethodRS256, issuer.key, `{"userid":"me","exp":1}`, nil),
		"no user":   signed(b, jwt.SigningMethodRS256, issuer.key, `{}`, nil),
		"algorithm": signed(b, jwt.SigningMethodHS256, []byte("x"), body, nil),
		"malformed": "a.b.c",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := verifier.Verify(b.Context(), token); err == nil {
					b.Fatal("it passed")
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	issuer, _ := issuers(b)
	verifier := &Verifier{Keys: issuer, Now: clock}
	token, err := issuer.Sign(Claims{UserID: "me", Service: ServiceSource}, noon)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifier.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
