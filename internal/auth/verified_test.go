package auth

import (
	"context"
	"crypto/rsa"
	"fmt"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
)

// swapped are keys that change.
type swapped struct{ key *rsa.PublicKey }

func (s *swapped) Key(context.Context) (*rsa.PublicKey, error)     { return s.key, nil }
func (s *swapped) Refresh(context.Context) (*rsa.PublicKey, error) { return s.key, nil }

// What is remembered of a token is never more than a check would say.
func TestRememberedTokens(t *testing.T) {
	a, b := issuers(t)
	keys := &swapped{&a.key.PublicKey}
	now := noon
	v := &Verifier{Keys: keys, Now: func() time.Time { return now }}
	token, err := a.Sign(Claims{UserID: "me", Service: ServiceSource, MaxDatasets: 3, Expires: 2 * time.Minute}, noon)
	if err != nil {
		t.Fatal(err)
	}
	first, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	first.UserID = "another" // the caller's own
	again, err := v.Verify(t.Context(), token)
	if err != nil || again.UserID != "me" || again.MaxDatasets != 3 || again == first {
		t.Fatalf("%+v, %v", again, err)
	}
	for name, step := range map[string]struct {
		now time.Time
		key *rsa.PublicKey
		ok  bool
	}{
		"within the leeway":      {noon.Add(3*time.Minute - time.Second), &a.key.PublicKey, true},
		"expired":                {noon.Add(3 * time.Minute), &a.key.PublicKey, false},
		"before it was made":     {noon.Add(-2 * time.Minute), &a.key.PublicKey, false},
		"the key was taken back": {noon, &b.key.PublicKey, false},
	} {
		now, keys.key = noon, &a.key.PublicKey
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		now, keys.key = step.now, step.key
		_, err := v.Verify(t.Context(), token)
		if (err == nil) != step.ok {
			t.Errorf("%s: %v", name, err)
		}
		switch {
		case name == "expired":
			wantExpired(t, err)
		case err != nil:
			wantDenied(t, err, errs.Unauthorized)
		}
	}
}

func TestRememberedTokensAreBounded(t *testing.T) {
	var v verified
	for n := range 3 * maxVerified {
		var sum [32]byte
		copy(sum[:], fmt.Sprint(n))
		v.add(sum, &checked{Token: Token{UserID: "me"}, at: noon})
		if len(v.young) > maxVerified || len(v.aged) > maxVerified {
			t.Fatalf("%d and %d are remembered", len(v.young), len(v.aged))
		}
		if v.get(sum, noon) == nil {
			t.Fatalf("%d is forgotten at once", n)
		}
		if v.get(sum, noon.Add(rememberFor+time.Second)) != nil {
			t.Fatalf("%d is remembered too long", n)
		}
		v.add(sum, &checked{Token: Token{UserID: "me"}, at: noon})
	}
}
