// Package client speaks the HTTP API of a specstore server, and of any server
// that keeps the contract of DataHub's Spec Store.
//
// A [Client] asks one server on behalf of one token. Nothing it is sent is
// trusted: answers are bounded, redirects are not followed, and the token goes
// to that server alone. Files are streamed. A request is repeated only where
// that cannot do a thing twice, and only a few times.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// DefaultServer is the address of a server on this machine.
const DefaultServer = "http://127.0.0.1:8000"

const (
	maxAnswer     = 64 << 20         // bytes of an answer; a status holds a spec of up to 16 MiB
	maxErrorBody  = 256 << 10        // bytes of an answer that refuses
	maxErrorText  = 4 << 10          // bytes of a message that is not JSON
	headerTimeout = 2 * time.Minute  // until the first byte of an answer
	maxTries      = 4                // of one request
	maxWait       = 30 * time.Second // between two of them
)

// Config says which server to ask, and as whom.
type Config struct {
	Server string // base URL, http or https; empty: [DefaultServer]
	Token  string // sent as the header Auth-Token; may be empty
	// HTTPClient is used for its transport, cookies and timeout. Nil: a client
	// of its own without a limit on the whole of a request, since uploads and
	// events take as long as they take; the context bounds them.
	HTTPClient *http.Client
}

// Client is safe for use by many goroutines.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	first time.Duration // the wait before the first repeat
	idle  time.Duration // how long a stream of events may be silent
}

// New makes a client; it asks nothing yet.
func New(config Config) (*Client, error) {
	server := strings.TrimSpace(config.Server)
	if server == "" {
		server = DefaultServer
	}
	base, err := url.Parse(server)
	if err != nil {
		// The cause is left out: it would show a password in the URL.
		return nil, errors.New("client: the server is not a URL")
	}
	switch {
	case base.Scheme != "http" && base.Scheme != "https", base.Hostname() == "":
		return nil, errors.New("client: the server must be a URL such as https://host or http://host:port")
	case base.User != nil, base.RawQuery != "", base.ForceQuery, base.Fragment != "":
		return nil, errors.New("client: the server is more than a scheme, host, port and path")
	}
	if strings.ContainsFunc(config.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, errors.New("client: the token holds blanks or letters that no token has")
	}
	own := http.Client{}
	if config.HTTPClient != nil {
		own = *config.HTTPClient
	} else if transport, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = transport.Clone()
		transport.ResponseHeaderTimeout = headerTimeout
		own.Transport = transport
	}
	// net/http would carry the header Auth-Token along to other hosts.
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: base, token: config.Token, http: &own, first: 500 * time.Millisecond, idle: 90 * time.Second}, nil
}

// WithToken gives a client of the same server and the same connections with
// another token.
func (c *Client) WithToken(token string) *Client {
	other := *c
	other.token = token
	return &other
}

// Error is a refusal: the server was reached and said no.
type Error struct {
	Status     int           // HTTP status
	Message    string        // what the server says, for people; never empty
	Errors     []string      // the list of errors of a refused upload
	RetryAfter time.Duration // what the server asks for; 0 where it does not
}

// Error gives the message and the status.
func (e *Error) Error() string {
	return fmt.Sprintf("the server answers %d: %s", e.Status, e.Message)
}

// StatusCode gives the HTTP status of the [Error] in the chain, 0 where there
// is none.
func StatusCode(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// call is one request of the API.
type call struct {
	method  string
	path    []string // segments, not escaped
	query   url.Values
	header  http.Header
	body    []byte // JSON, or nil
	repeats bool   // asking twice is the same as asking once
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	target := *c.base
	path, escaped := strings.TrimSuffix(target.Path, "/"), strings.TrimSuffix(target.EscapedPath(), "/")
	for _, segment := range r.path {
		// Such a segment would be another place to servers and proxies.
		if segment == "" || segment == "." || segment == ".." {
			return nil, fmt.Errorf("client: %q is not a name", segment)
		}
		path += "/" + segment
		escaped += "/" + url.PathEscape(segment)
	}
	target.Path, target.RawPath, target.RawQuery = path, escaped, r.query.Encode()
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	request, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, errors.New("client: the request cannot be made: bad address")
	}
	request.Header.Set("Accept", "application/json")
	if r.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Auth-Token", c.token)
	}
	maps.Copy(request.Header, r.header)
	return request, nil
}

// send asks until the answer is one to keep. The caller closes its body.
func (c *Client) send(ctx context.Context, r call) (*http.Response, error) {
	return c.attempt(ctx, r.repeats, func() (*http.Response, error) {
		request, err := c.request(ctx, r)
		if err != nil {
			return nil, err
		}
		return c.http.Do(request)
	})
}

// attempt repeats a request that may be repeated after failures of the network
// and of gateways. A 503 with Retry-After is a promise that nothing was done,
// so that one is repeated for every request.
func (c *Client) attempt(ctx context.Context, repeats bool, do func() (*http.Response, error)) (*http.Response, error) {
	for try := 1; ; try++ {
		answer, err := do()
		if err == nil && answer.StatusCode >= 200 && answer.StatusCode < 300 {
			return answer, nil
		}
		wait := c.first << (try - 1)
		again := false
		if err == nil {
			refusal := readError(answer)
			switch refusal.Status {
			case http.StatusServiceUnavailable:
				again = repeats || refusal.RetryAfter > 0
			case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
				again = repeats
			}
			wait = max(wait, refusal.RetryAfter)
			err = refusal
		} else {
			// An *url.Error is a failure to reach the server, anything else is
			// a request that could not be made.
			failure, ok := errors.AsType[*url.Error](err)
			again = ok && repeats
			if ok {
				// The URL may hold a token.
				err = fmt.Errorf("the server cannot be reached: %w", failure.Err)
			}
		}
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if !again || try == maxTries || wait > maxWait {
			return nil, err
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// json sends a request and reads the JSON of its answer into out, which may be
// nil. It gives the whole text of the answer.
func (c *Client) json(ctx context.Context, r call, out any) ([]byte, error) {
	answer, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("the answer was cut off: %w", err)
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	if out == nil {
		return text, nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("the answer is not what a specstore server sends: %w", err)
	}
	return text, nil
}

// readError makes an [Error] of an answer and closes its body.
func readError(answer *http.Response) *Error {
	defer answer.Body.Close()
	refusal := &Error{Status: answer.StatusCode, RetryAfter: retryAfter(answer.Header.Get("Retry-After"))}
	// What cannot be read of the reason leaves the status.
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxErrorBody))
	var body struct {
		Error  json.RawMessage `json:"error"`
		Errors []string        `json:"errors"`
	}
	var inner struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &body) == nil {
		for _, line := range body.Errors {
			refusal.Errors = append(refusal.Errors, clean(line))
		}
		if json.Unmarshal(body.Error, &inner) == nil {
			refusal.Message = clean(inner.Message)
		}
		if refusal.Message == "" {
			refusal.Message = strings.Join(refusal.Errors, "\n")
		}
	} else if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain") {
		refusal.Message = clean(string(text[:min(len(text), maxErrorText)]))
	}
	if to := answer.Header.Get("Location"); refusal.Message == "" && to != "" {
		refusal.Message = "moved to " + clean(to) + "; use that address"
	}
	if refusal.Message == "" {
		refusal.Message = http.StatusText(answer.StatusCode)
	}
	if refusal.Message == "" {
		refusal.Message = "no reason given"
	}
	return refusal
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.Atoi(text); err == nil {
		// More than a day is a day: a duration must not overflow.
		return time.Duration(min(max(seconds, 0), 86400)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// clean makes a text of the server fit for a terminal: control characters
// would be obeyed there.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, text)
	return strings.TrimSpace(text)
}

// dataset splits a dataset ID, "owner/name".
func dataset(id string) (owner, name string, err error) {
	owner, name, found := strings.Cut(id, "/")
	if !found || owner == "" || name == "" || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("client: %q is not a dataset ID such as owner/name", id)
	}
	return owner, name, nil
}
