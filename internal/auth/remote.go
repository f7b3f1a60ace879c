package auth

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/datahq/specstore/internal/errs"
)

const (
	maxKeyText   = 64 << 10         // bytes of the answer that are read
	fetchTimeout = 10 * time.Second // for the whole of one fetch
	refreshEvery = time.Minute      // between two fetches while a key is known
	retryEvery   = 2 * time.Second  // between two fetches while none is
	maxRedirects = 3
)

// RemoteKeys is the public key of a remote auth server. It is fetched when it
// is first needed, so that a service starts while the auth server is down, kept
// in memory, and fetched again when a signature does not fit, at most once a
// minute however many bad tokens come. A fetch that fails leaves the key that
// was known. It is safe for use by many goroutines.
type RemoteKeys struct {
	base   *url.URL
	url    string
	client *http.Client
	now    func() time.Time

	fetching chan struct{} // holds one token while a fetch runs

	mu    sync.Mutex
	key   *rsa.PublicKey
	tried time.Time // when the last fetch began
	err   error     // why the last fetch failed
}

// NewRemoteKeys makes the keys of an auth server, given as to [ServerURL]. It
// asks nothing yet. The client may be nil; of the one given its transport,
// cookies and timeout are used, and redirects are followed only to the same
// host and never from https to http.
func NewRemoteKeys(server string, client *http.Client) (*RemoteKeys, error) {
	base, err := ServerURL(server)
	if err != nil {
		return nil, err
	}
	guarded := http.Client{}
	if client != nil {
		guarded = *client
	}
	guarded.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		first := via[0].URL
		switch {
		case len(via) > maxRedirects:
			return errors.New("too many redirects")
		case next.URL.Hostname() != first.Hostname():
			return errors.New("redirected to another host")
		case first.Scheme == "https" && next.URL.Scheme != "https":
			return errors.New("redirected from https to http")
		}
		return nil
	}
	return &RemoteKeys{
		base:     base,
		url:      base.JoinPath("auth", "public-key").String(),
		client:   &guarded,
		now:      time.Now,
		fetching: make(chan struct{}, 1),
	}, nil
}

// ServerURL gives the base URL of an auth server that is configured as a URL or
// as host[:port], as the original had it. Without a scheme, a bare name without
// a dot and a loopback address are reached by http (a service beside this one,
// in the same network), everything else by https. A wrong value gives
// [errs.Invalid].
func ServerURL(server string) (*url.URL, error) {
	const op = "auth.ServerURL"
	text := strings.TrimSpace(server)
	if !strings.Contains(text, "://") {
		text = "//" + text
	}
	base, err := url.Parse(text)
	if err != nil {
		// The cause is left out: it would show a password in the URL.
		return nil, errs.New(errs.Invalid, op, "the auth server is not a URL or host[:port]")
	}
	switch {
	case base.Hostname() == "":
		return nil, errs.New(errs.Invalid, op, "the auth server has no host")
	case strings.Contains(text, "@") || base.RawQuery != "" || base.ForceQuery || base.Fragment != "":
		return nil, errs.New(errs.Invalid, op, "the auth server is more than a scheme, host, port and path")
	}
	switch base.Scheme {
	case "http", "https":
	case "":
		base.Scheme = "https"
		if near(base.Hostname()) {
			base.Scheme = "http"
		}
	default:
		return nil, errs.New(errs.Invalid, op, "the auth server must be reached by http or https")
	}
	return base, nil
}

// near reports whether a host is this machine or a bare name.
func near(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return !strings.Contains(strings.TrimSuffix(host, "."), ".")
}

// Key gives the key in memory, and fetches it where there is none. While the
// auth server gives none the error is [errs.Unavailable], and the server is
// asked every two seconds at most.
func (k *RemoteKeys) Key(ctx context.Context) (*rsa.PublicKey, error) {
	if key := k.known(); key != nil {
		return key, nil
	}
	return k.fetch(ctx)
}

// Refresh fetches the key again if the last fetch is a minute old, and gives
// the key that is then known. It fails only where none is.
func (k *RemoteKeys) Refresh(ctx context.Context) (*rsa.PublicKey, error) {
	return k.fetch(ctx)
}

func (k *RemoteKeys) known() *rsa.PublicKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.key
}

// due says whether a fetch may begin now, and marks it as begun. Otherwise it
// gives what is known.
func (k *RemoteKeys) due() (begin bool, key *rsa.PublicKey, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	gap := refreshEvery
	if k.key == nil {
		gap = retryEvery
	}
	now := k.now()
	// A clock that was put back does not stop the fetching.
	if since := now.Sub(k.tried); !k.tried.IsZero() && since >= 0 && since < gap {
		return false, k.key, k.err
	}
	k.tried = now
	return true, nil, nil
}

// fetch asks the auth server, one request at a time. Those who wait for a fetch
// that is under way get what it found.
func (k *RemoteKeys) fetch(ctx context.Context) (*rsa.PublicKey, error) {
	select {
	case k.fetching <- struct{}{}:
		defer func() { <-k.fetching }()
	case <-ctx.Done():
		return nil, unavailable(context.Cause(ctx))
	}
	begin, key, err := k.due()
	if begin {
		// A caller that goes away does not spoil the fetch for the others:
		// it would count as the one of this minute.
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), fetchTimeout,
			errors.New("the auth server took too long"))
		defer cancel()
		var fresh *rsa.PublicKey
		fresh, err = k.get(ctx)
		k.mu.Lock()
		if err == nil {
			k.key = fresh
		}
		k.err, key = err, k.key
		k.mu.Unlock()
	}
	if key == nil {
		return nil, unavailable(err)
	}
	return key, nil
}

func unavailable(err error) error {
	return errs.Wrap(err, errs.Unavailable, "auth.RemoteKeys",
		"The auth server does not give its public key; try again later")
}

func (k *RemoteKeys) get(ctx context.Context) (key *rsa.PublicKey, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", k.url, answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxKeyText+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.url, err)
	}
	if len(text) > maxKeyText {
		return nil, fmt.Errorf("%s answers with more than %d bytes", k.url, maxKeyText)
	}
	key, err = jwt.ParseRSAPublicKeyFromPEM(text)
	if err != nil {
		return nil, fmt.Errorf("%s gives no public key: %w", k.url, err)
	}
	if err := checkSize(key); err != nil {
		return nil, fmt.Errorf("%s: %w", k.url, err)
	}
	return key, nil
}
