package errs

import (
	"errors"
	"fmt"
	"testing"
)

func TestUsersReadDetailsOnly(t *testing.T) {
	t.Parallel()
	secret := errors.New("dial tcp 10.0.0.1: refused")
	for _, test := range []struct {
		name string
		err  error
		kind Kind
		text string
	}{
		{"plain", secret, Internal, "internal error"},
		{"detail", New(NotFound, "op", "no dataset %q", "a"), NotFound, `no dataset "a"`},
		{"wrapped", fmt.Errorf("outer: %w", Wrap(secret, Unavailable, "op", "try again")), Unavailable, "try again"},
		{"kind only", &Error{Kind: Forbidden, Err: secret}, Forbidden, "forbidden"},
		{"detail below", &Error{Kind: Conflict, Err: New(Invalid, "op", "below")}, Conflict, "below"},
	} {
		if KindOf(test.err) != test.kind || Detail(test.err) != test.text {
			t.Errorf("%s: %v %q, want %v %q", test.name, KindOf(test.err), Detail(test.err), test.kind, test.text)
		}
	}
	if Is(nil, Internal) || Detail(nil) != "" {
		t.Error("no error has a kind or a detail")
	}
}
