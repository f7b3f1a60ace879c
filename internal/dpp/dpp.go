// Package dpp talks to a datapackage-pipelines service: is it there, look for new
// pipelines now, how does one stand. Or to dpp-runner, which a flow is handed over to.
//
// The service pulls the pipelines that it is to run and tells of them by hooks, so a
// refresh that is lost costs time and nothing else. No answer of it is trusted for more
// than it says: versions from 2.1 answer any path with a page and status 200, which is
// no refresh.
package dpp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/errs"
)

const (
	probeTimeout   = 3 * time.Second
	refreshTimeout = 5 * time.Second
	maxAnswer      = 64 << 10 // bytes
)

// Client asks one service. Any number of goroutines may use it.
type Client struct {
	base   *url.URL
	client *http.Client
	style  Style
	probe  probe
}

// probe is the last answer to whether the service is there, which those that ask at the
// same time, or soon after, share.
type probe struct {
	mu      sync.Mutex
	running chan struct{} // closed when the one that runs has ended; nil: none runs
	until   time.Time     // how long err holds
	err     error
}

// How long the answer to a probe holds: a service that is back is soon found to be so.
const (
	probeFor       = time.Second
	failedProbeFor = 200 * time.Millisecond
)

// New makes a client for the service at a URL, such as http://pipelines:5000/, that is
// spoken to in a style. It asks nothing yet. A URL that is not understood gives Invalid.
func New(address string, style Style) (*Client, error) {
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		// The cause is left out: it may show a password.
		return nil, errs.New(errs.Invalid, "dpp.New", "not an http or https URL such as http://pipelines:5000/")
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errs.New(errs.Invalid, "dpp.New", "the URL has more than a scheme, host, port and path")
	}
	return &Client{base: base.JoinPath("/"), client: &http.Client{
		// What it redirects to is not the service that was named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, style: style}, nil
}

// Probe asks whether the service answers at all. Where it does not within 3 seconds
// the error is Unavailable. Those that ask at the same time share one answer, which holds
// for a second, and a failure for a fifth of one.
func (c *Client) Probe(ctx context.Context) error {
	p := &c.probe
	p.mu.Lock()
	for {
		if time.Now().Before(p.until) {
			defer p.mu.Unlock()
			return p.err
		}
		running := p.running
		if running == nil {
			break
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-running:
		}
		p.mu.Lock()
	}
	ended := make(chan struct{})
	p.running = ended
	p.mu.Unlock()
	err := c.ProbeNow(context.WithoutCancel(ctx)) // others wait for it
	holds := probeFor
	if err != nil {
		holds = failedProbeFor
	}
	p.mu.Lock()
	p.running, p.err, p.until = nil, err, time.Now().Add(holds)
	p.mu.Unlock()
	close(ended)
	return err
}

// ProbeNow is [Client.Probe] with an answer of its own.
func (c *Client) ProbeNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, errors.New("no answer in time"))
	defer cancel()
	res, err := c.get(ctx, c.base)
	if err == nil && res.StatusCode < http.StatusInternalServerError {
		return res.Body.Close()
	}
	if err == nil {
		err = errors.Join(fmt.Errorf("it answers %s", res.Status), res.Body.Close())
	}
	return errs.Wrap(err, errs.Unavailable, "dpp.Probe", "The pipelines service cannot be reached; nothing was stored, try again later")
}

// Refresh tells the service to look for new pipelines now. It fails where the answer is
// not {"ok": true}.
func (c *Client) Refresh(ctx context.Context) error {
	const op = "dpp.Refresh"
	ctx, cancel := context.WithTimeoutCause(ctx, refreshTimeout, errors.New("no answer in time"))
	defer cancel()
	res, err := c.get(ctx, c.base.JoinPath("api", "refresh"))
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: it answers %s", op, res.Status)
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != "application/json" {
		return fmt.Errorf("%s: it answers with %q and no JSON: this version has no refresh, and looks by itself once a minute", op, kind)
	}
	var answer struct {
		OK bool `json:"ok"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if !answer.OK {
		return fmt.Errorf("%s: it answers that it did not", op)
	}
	return nil
}

func (c *Client) get(ctx context.Context, u *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), c.base.Host, "the service"))
	}
	return res, nil
}
