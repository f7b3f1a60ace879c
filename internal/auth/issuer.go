package auth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/datahq/specstore/internal/errs"
)

const (
	// DefaultLife is how long a token is good that was asked for without a time.
	DefaultLife = 24 * time.Hour
	// ServiceLife is how long a service token is good that a user token was
	// swapped for. Clients ask for a fresh one in each phase of a push.
	ServiceLife = 5 * time.Minute
)

// RFC 7518, section 3.3 asks for 2048 bits or more. The upper end bounds the
// work that one signature can cost.
const (
	minKeyBits = 2048
	maxKeyBits = 8192
)

// Claims is what a token is to say.
type Claims struct {
	UserID      string        // needed
	UserName    string        // may be empty
	Service     string        // empty for a user token
	MaxDatasets int           // how many datasets the owner may have
	Expires     time.Duration // how long it is good; zero: [DefaultLife]
}

// Issuer is the embedded auth server: it signs tokens with its own key. It is
// safe for use by many goroutines, and serves as [Keys] for its own tokens.
type Issuer struct {
	key    *rsa.PrivateKey
	public string
}

// GenerateKey makes a private RSA key of 2048 bits, as PEM text (PKCS #8).
func GenerateKey() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, minKeyBits)
	if err != nil {
		return "", fmt.Errorf("auth.GenerateKey: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("auth.GenerateKey: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// NewIssuer makes an issuer from a private RSA key in PEM (PKCS #8 or PKCS #1)
// of 2048 to 8192 bits. Its errors never hold the key.
func NewIssuer(privatePEM string) (*Issuer, error) {
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(privatePEM))
	if err != nil {
		return nil, fmt.Errorf("auth.NewIssuer: %w", err)
	}
	if err := checkSize(&key.PublicKey); err != nil {
		return nil, fmt.Errorf("auth.NewIssuer: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("auth.NewIssuer: %w", err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return &Issuer{key: key, public: public}, nil
}

// PublicKeyPEM gives the public key as PEM text, "BEGIN PUBLIC KEY" (RFC 7468,
// section 13).
func (i *Issuer) PublicKeyPEM() string { return i.public }

// Key gives the public key.
func (i *Issuer) Key(context.Context) (*rsa.PublicKey, error) { return &i.key.PublicKey, nil }

func (i *Issuer) known() *rsa.PublicKey { return &i.key.PublicKey }

// Refresh gives the public key; the key of an issuer does not change.
func (i *Issuer) Refresh(ctx context.Context) (*rsa.PublicKey, error) { return i.Key(ctx) }

// Sign makes a token that is good from now on. Claims that no token can carry
// give [errs.Invalid].
func (i *Issuer) Sign(c Claims, now time.Time) (string, error) {
	const op = "auth.Sign"
	switch {
	case c.UserID == "":
		return "", errs.New(errs.Invalid, op, "a token needs an owner ID")
	case c.MaxDatasets < 0:
		return "", errs.New(errs.Invalid, op, "the number of datasets cannot be negative")
	case c.Expires < 0:
		return "", errs.New(errs.Invalid, op, "the time a token is good for cannot be negative")
	case c.Service != "" && !slices.Contains(Services(), c.Service):
		return "", unknownService(op)
	}
	if c.Expires == 0 {
		c.Expires = DefaultLife
	}
	limit := float64(c.MaxDatasets)
	token, err := jwt.NewWithClaims(jwt.SigningMethodRS256, &claims{
		UserID: c.UserID, UserName: c.UserName, Service: c.Service,
		Permissions: &permissions{MaxDatasets: &limit},
		IssuedAt:    jwt.NewNumericDate(now),
		NotBefore:   jwt.NewNumericDate(now),
		Expires:     jwt.NewNumericDate(now.Add(c.Expires)),
	}).SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("auth.Sign: %w", err)
	}
	if len(token) > maxToken {
		return "", errs.Wrap(errTooLong, errs.Invalid, op, "the owner ID or the name is too long for a token")
	}
	return token, nil
}

// Authorize swaps a user token for a service token of the same user with the
// same permissions, good for [ServiceLife] and never longer than the user
// token. Without a token, or with one that is itself for a service, the error
// is [errs.Unauthorized]; an unknown service is [errs.Invalid].
func (i *Issuer) Authorize(user *Token, service string, now time.Time) (string, error) {
	const op = "auth.Authorize"
	if user == nil || user.Service != "" {
		return "", errs.New(errs.Unauthorized, op, Denied)
	}
	if !slices.Contains(Services(), service) {
		return "", unknownService(op)
	}
	life := ServiceLife
	if !user.Expires.IsZero() {
		left := user.Expires.Sub(now)
		if left <= 0 {
			// It lives by the leeway alone, which is not handed on.
			return "", errs.New(errs.Unauthorized, op, Denied)
		}
		life = min(life, left)
	}
	return i.Sign(Claims{
		UserID: user.UserID, UserName: user.UserName, Service: service,
		MaxDatasets: user.MaxDatasets, Expires: life,
	}, now)
}

func unknownService(op string) error {
	return errs.New(errs.Invalid, op, "the service must be one of %s", strings.Join(Services(), ", "))
}

func checkSize(key *rsa.PublicKey) error {
	if bits := key.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
		return fmt.Errorf("the RSA key has %d bits, not %d to %d", bits, minKeyBits, maxKeyBits)
	}
	return nil
}
