package auth

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/datahq/specstore/internal/errs"
)

// Keys gives the public key that tokens are checked with.
type Keys interface {
	// Key gives the key in use, from memory where that is possible. An error
	// of the kind [errs.Unavailable] means that no key is known yet.
	Key(ctx context.Context) (*rsa.PublicKey, error)
	// Refresh is called when a signature does not fit the key in use. It may
	// ask the issuer again, and gives the key that is then in use, which may
	// be the same one.
	Refresh(ctx context.Context) (*rsa.PublicKey, error)
}

// Verifier checks tokens. It is safe for use by many goroutines.
type Verifier struct {
	Keys Keys
	Now  func() time.Time // nil: time.Now

	known verified
}

// claims is the body of a token.
type claims struct {
	UserID      string           `json:"userid,omitempty"`
	UserName    string           `json:"username,omitempty"`
	Service     string           `json:"service,omitempty"`
	Permissions *permissions     `json:"permissions,omitempty"`
	Expires     *jwt.NumericDate `json:"exp,omitempty"`
	NotBefore   *jwt.NumericDate `json:"nbf,omitempty"`
	IssuedAt    *jwt.NumericDate `json:"iat,omitempty"`
	Audience    json.RawMessage  `json:"aud,omitempty"`
}

type permissions struct {
	MaxDatasets *float64 `json:"max_dataset_num,omitempty"`
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.NotBefore, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.IssuedAt, nil }
func (c *claims) GetIssuer() (string, error)                   { return "", nil }
func (c *claims) GetSubject() (string, error)                  { return "", nil }

// GetAudience gives none: [claims.Validate] refuses every token that has one.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return nil, nil }

var (
	errAudience = errors.New("the token is for another audience")
	errNoUser   = errors.New("the token has no userid")
	errCritical = errors.New("the token has critical header parameters")
	errTooLong  = errors.New("the token is too long")
	errNoToken  = errors.New("no token")
)

// ErrExpired is in the chain of the refusal of a token that was good and whose time is over.
var ErrExpired = errors.New("the token has expired")

// Validate is called once the signature and the times are known to be good.
// A recipient that is not named in aud must refuse (RFC 7519, section 4.1.3),
// and this service has no name.
func (c *claims) Validate() error {
	if c.Audience != nil {
		return errAudience
	}
	if c.UserID == "" {
		return errNoUser
	}
	return nil
}

// Verify checks the text of a token and gives who it stands for. A token that
// is missing or bad gives [errs.Unauthorized] with [Denied]; where no key can
// be had, the error is that of [Keys]. When the signature does not fit, the key
// is refreshed once and the token tried again with a key that has changed.
func (v *Verifier) Verify(ctx context.Context, token string) (*Token, error) {
	const op = "auth.Verify"
	switch {
	case token == "":
		return nil, errs.Wrap(errNoToken, errs.Unauthorized, op, Denied)
	case len(token) > maxToken:
		return nil, errs.Wrap(errTooLong, errs.Unauthorized, op, Denied)
	}
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithLeeway(Leeway), jwt.WithIssuedAt(), jwt.WithTimeFunc(now))

	var key *rsa.PublicKey // the key last tried; nil while the token was not worth one
	var keyErr error
	try := func(get func(context.Context) (*rsa.PublicKey, error)) (*claims, error) {
		c := new(claims)
		_, err := parser.ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
			// RFC 7515, section 4.1.11: parameters that are not understood
			// but marked as critical make the token invalid.
			if _, ok := t.Header["crit"]; ok {
				return nil, errCritical
			}
			if key, keyErr = get(ctx); keyErr != nil {
				return nil, keyErr
			}
			return key, nil
		})
		return c, err
	}
	sum := sha256.Sum256([]byte(token))
	if found := v.known.get(sum, now()); found != nil {
		// It was checked with the key in use, or is checked again.
		if inUse, err := v.Keys.Key(ctx); err == nil && inUse == found.key {
			return found.token(), nil
		}
	}
	c, err := try(v.Keys.Key)
	if keyErr != nil {
		return nil, keyErr
	}
	if key != nil && errors.Is(err, jwt.ErrTokenSignatureInvalid) {
		fresh, refreshErr := v.Keys.Refresh(ctx)
		if refreshErr == nil && !fresh.Equal(key) {
			c, err = try(func(context.Context) (*rsa.PublicKey, error) { return fresh, nil })
		}
	}
	if err != nil {
		if key == nil {
			v.spend()
		}
		if errors.Is(err, jwt.ErrTokenExpired) { // its signature is good
			return nil, errs.Wrap(errors.Join(ErrExpired, err), errs.Unauthorized, op, "%s: %s", Denied, ErrExpired)
		}
		return nil, errs.Wrap(err, errs.Unauthorized, op, Denied)
	}
	found := &checked{Token: Token{UserID: c.UserID, UserName: c.UserName, Service: c.Service, MaxDatasets: c.limit()}, key: key, at: now()}
	if c.Expires != nil {
		found.Expires = c.Expires.UTC()
	}
	v.known.add(sum, found)
	return found.token(), nil
}

// spend takes the time of a signature's check, for a token that was refused before it,
// so that the time of a refusal does not tell what was wrong.
func (v *Verifier) spend() {
	if keys, ok := v.Keys.(interface{ known() *rsa.PublicKey }); ok {
		if key := keys.known(); key != nil {
			_ = jwt.SigningMethodRS256.Verify("", make([]byte, key.Size()), key)
		}
	}
}

// limit gives the number of datasets as a whole number from 0 to 2^31-1.
func (c *claims) limit() int {
	if c.Permissions == nil || c.Permissions.MaxDatasets == nil {
		return 0
	}
	return int(min(max(math.Floor(*c.Permissions.MaxDatasets), 0), math.MaxInt32))
}
