// Package auth says who a caller is and what that caller may do.
//
// Tokens are JSON Web Tokens (RFC 7519) signed with RS256 (RFC 7518, section
// 3.3) and nothing else: the algorithm is fixed here and never taken from the
// token. They come from a remote auth server, whose public key [RemoteKeys]
// fetches, or from the embedded [Issuer]. A [Verifier] turns text into a
// [Token]; a Token that exists was checked. [Token.Require] is the one place
// that says which kind of token serves for which [Action].
package auth

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
)

// Denied is the detail of every refusal. It is the text of the original, and
// says no more to a stranger than that the door is shut.
const Denied = "No token or token not authorised for owner"

// The services a user token can be swapped for. A token without a service is a
// user token.
const (
	ServiceSource   = "source"   // uploads specs
	ServiceRawstore = "rawstore" // uploads files
	ServiceFrontend = "frontend" // reads on behalf of a page
)

// Services lists the known services, sorted.
func Services() []string {
	return []string{ServiceFrontend, ServiceRawstore, ServiceSource}
}

// Leeway is how far the clocks of the issuer and of this server may be apart
// when exp, nbf and iat are looked at.
const Leeway = 60 * time.Second

// maxToken bounds the text of a token in bytes. A real one has under 2 KiB.
const maxToken = 16 << 10

// Token is who calls: the claims of a token that was checked.
type Token struct {
	UserID      string    // claim userid: the owner ID; never empty
	UserName    string    // claim username; may be empty
	Service     string    // claim service; empty for a user token
	MaxDatasets int       // claim permissions.max_dataset_num; 0 where absent
	Expires     time.Time // claim exp, UTC; zero for a token that never expires
}

// Action is something a caller wants to do with what an owner has.
type Action uint8

// The actions.
const (
	Read     Action = iota // read a private dataset
	Upload                 // upload a spec
	Manage                 // cancel, retry, delete
	RawWrite               // get leave to upload raw files
	RawRead                // get signed URLs of raw files
)

// services tells which kinds of token serve for an action. A source token
// serves for raw files too: clients presign with it.
func (a Action) services() []string {
	switch a {
	case Read:
		return []string{"", ServiceSource, ServiceFrontend}
	case Upload:
		return []string{ServiceSource}
	case Manage:
		return []string{"", ServiceSource}
	case RawWrite:
		return []string{ServiceRawstore, ServiceSource}
	case RawRead:
		return []string{ServiceRawstore, ServiceSource, ServiceFrontend}
	}
	return nil
}

// Require gives nil when the token serves for the action on what the owner ID
// has. Without a token, or with one for another service, the error is
// [errs.Unauthorized]; with the token of another owner it is [errs.Forbidden].
// Both say [Denied].
func (t *Token) Require(action Action, ownerID string) error {
	if t == nil || !slices.Contains(action.services(), t.Service) {
		return errs.New(errs.Unauthorized, "auth.Require", Denied)
	}
	if ownerID == "" || t.UserID != ownerID {
		return errs.New(errs.Forbidden, "auth.Require", Denied)
	}
	return nil
}

// Allows reports whether [Token.Require] gives no error.
func (t *Token) Allows(action Action, ownerID string) bool {
	return t.Require(action, ownerID) == nil
}

// FromRequest gives the text of the token that came with a request: the header
// Auth-Token, else the bearer of Authorization (RFC 6750), else the query
// argument jwt; empty where there is none.
func FromRequest(r *http.Request) string {
	if token := strings.TrimSpace(r.Header.Get("Auth-Token")); token != "" {
		return token
	}
	scheme, token, found := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if found && strings.EqualFold(scheme, "Bearer") {
		if token = strings.TrimSpace(token); token != "" {
			return token
		}
	}
	return r.URL.Query().Get("jwt")
}
