// Package fetch reads sources over HTTP on behalf of strangers.
//
// Whoever names an address must not be able to make the service talk to machines
// that only it can reach. So the address of every connection is looked at after
// the name was resolved, at the moment of dialling and again at each redirect:
// one that is not public is refused unless the operator allows it. A body that
// breaks off is an error, never a short file; one that is too long, as it comes or once
// its content coding is undone, and one that drips are errors, too.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/weburl"
)

// Config says what a client may reach and how long it waits.
type Config struct {
	// Allow are hosts (name, or name:port), addresses and CIDR blocks that may be
	// read from although they are not public. The addresses at which clouds tell
	// a machine its secrets are refused all the same.
	Allow []string
	// HeaderTimeout bounds the wait for an answer; 0 is 30 s.
	HeaderTimeout time.Duration
	// IdleTimeout bounds the wait for the next bytes of a body; 0 is 60 s.
	IdleTimeout time.Duration
	// MaxBytes bounds a body, as it comes and as it is without its content coding; 0 is
	// 64 GiB.
	MaxBytes int64
	// MinRate is what a body must have in bytes a second, over 60 s; 0 is 1024.
	MinRate int64
}

const (
	maxRedirects   = 10
	connectTimeout = 10 * time.Second

	defaultMaxBytes = 64 << 30
	defaultMinRate  = 1 << 10
	rateWindow      = 60 * time.Second
)

// Client reads sources. Any number of goroutines may use it.
type Client struct {
	http  *http.Client
	hosts []string
	nets  []netip.Prefix
	idle  time.Duration
	max   int64 // bytes of a body
	rate  int64 // bytes a second
}

// Info is what is known of a source.
type Info struct {
	Size        int64  // -1 where it is not known
	URL         string // after redirects, without user, query and fragment
	ContentType string
}

// New makes a client. It fails with Invalid on an entry of Allow that cannot be read.
func New(cfg Config) (*Client, error) {
	c := &Client{
		idle: cmp.Or(cfg.IdleTimeout, 60*time.Second),
		max:  cmp.Or(cfg.MaxBytes, defaultMaxBytes),
		rate: cmp.Or(cfg.MinRate, defaultMinRate),
	}
	for _, entry := range cfg.Allow {
		entry = strings.ToLower(strings.TrimSpace(entry))
		if entry == "" {
			continue
		}
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			c.nets = append(c.nets, prefix.Masked())
			continue
		}
		if addr, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
			c.nets = append(c.nets, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		if !validHost(entry) {
			return nil, errs.New(errs.Invalid, "fetch.New", "%s is neither a host nor a CIDR block", weburl.Setting(entry))
		}
		c.hosts = append(c.hosts, entry)
	}
	header := cfg.HeaderTimeout
	if header == 0 {
		header = 30 * time.Second
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext:           c.dial,
			TLSHandshakeTimeout:   connectTimeout,
			ResponseHeaderTimeout: header,
			MaxIdleConnsPerHost:   4,
			IdleConnTimeout:       30 * time.Second,
			// Through a proxy the proxy would choose the address.
			Proxy:                  nil,
			MaxResponseHeaderBytes: 1 << 20,
			ForceAttemptHTTP2:      true,
			// Codings are undone here, within bounds.
			DisableCompression: true,
		},
		CheckRedirect: follow,
	}
	return c, nil
}

// validHost reports whether an entry is a host, or a host and a port.
func validHost(entry string) bool {
	host := entry
	if strings.Contains(entry, ":") {
		h, port, err := net.SplitHostPort(entry)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 {
			return false
		}
		host = h
	}
	return host != "" && !strings.ContainsAny(host, "/ @*?#")
}

func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return errs.New(errs.Invalid, "fetch.Open", "sources are read over http and https only")
	case u.Host == "":
		return errs.New(errs.Invalid, "fetch.Open", "the address of the source has no host")
	case u.User != nil:
		return errs.New(errs.Invalid, "fetch.Open", "the address of a source must not hold a user or password")
	}
	return nil
}

// dial connects to the first address of a name that may be reached.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	named := slices.Contains(c.hosts, host) || slices.Contains(c.hosts, net.JoinHostPort(host, port))
	d := &net.Dialer{
		Timeout: connectTimeout,
		// The control function sees the address that is dialled, whatever the
		// name resolved to before.
		Control: func(_, address string, _ syscall.RawConn) error { return c.checkAddress(address, named) },
	}
	return d.DialContext(ctx, network, address)
}

// checkAddress says whether an address may be dialled; named where the operator
// allows the host by its name.
func (c *Client) checkAddress(address string, named bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return errs.Wrap(err, errs.Invalid, "fetch.Open", "the address of the source is not allowed")
	}
	addr := ap.Addr().WithZone("").Unmap()
	within := func(p netip.Prefix) bool { return p.Contains(addr) }
	if slices.ContainsFunc(metadata, within) {
		return errs.New(errs.Invalid, "fetch.Open", "the source lies at an address that is never read from")
	}
	if named || public(addr) || slices.ContainsFunc(c.nets, within) {
		return nil
	}
	return errs.New(errs.Invalid, "fetch.Open", "the source lies at an address that is not public; the operator may allow it (SPECSTORE_FETCH_ALLOW)")
}

// special are the blocks of the IANA special-purpose registries that
// netip.Addr's own questions do not cover.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("3fff::/20"), netip.MustParsePrefix("5f00::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

// metadata are the addresses of the clouds' metadata services.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("fd20:ce::254/128"),
	netip.MustParsePrefix("100.100.100.200/32"), netip.MustParsePrefix("192.0.0.192/32"), netip.MustParsePrefix("168.63.129.16/32"),
}

var (
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
	sixTo = netip.MustParsePrefix("2002::/16")
)

// public reports whether an address is one of the public Internet. An IPv6 address
// that stands for an IPv4 one is as public as that.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if a.Is6() {
		b := a.As16()
		switch {
		case nat64.Contains(a):
			return public(netip.AddrFrom4([4]byte(b[12:16])))
		case sixTo.Contains(a):
			return public(netip.AddrFrom4([4]byte(b[2:6])))
		case b[0] == 0: // ::/8: compatible, unspecified, loopback and not assigned
			return false
		}
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Open reads a source. Failures say what is wrong in words for its owner: Invalid
// where the address or the answer is to blame, Unavailable where a later try may help.
// A body that ends before it is whole fails with [io.ErrUnexpectedEOF] as its cause.
func (c *Client) Open(ctx context.Context, address string) (io.ReadCloser, Info, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, Info{}, errs.Wrap(bare(err), errs.Invalid, "fetch.Open", "the address of the source cannot be read")
	}
	if err := checkURL(u); err != nil {
		return nil, Info{}, err
	}
	u.Fragment = ""
	// The body is cut off when nothing comes for a while.
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, Info{}, errs.Wrap(bare(err), errs.Invalid, "fetch.Open", "the address of the source cannot be read")
	}
	req.Header.Set("User-Agent", "specstore")
	req.Header.Set("Accept-Encoding", acceptCodings)
	// Some servers redirect a reader to the same address again with a cookie, so there are
	// cookies, and only for this one source.
	asking := *c.http
	if asking.Jar, err = cookiejar.New(nil); err != nil {
		cancel(nil)
		return nil, Info{}, err
	}
	res, err := asking.Do(req)
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		return nil, Info{}, failure(err, cause)
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		cancel(nil)
		kind := errs.Invalid
		if res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusRequestTimeout {
			kind = errs.Unavailable
		}
		return nil, Info{}, errs.New(kind, "fetch.Open", "the source answered %s", statusText(res.StatusCode))
	}
	final := *res.Request.URL
	final.User, final.RawQuery, final.Fragment = nil, "", ""
	if res.ContentLength > c.max {
		res.Body.Close()
		cancel(nil)
		return nil, Info{}, tooLong(c.max, "")
	}
	raw := &pace{ReadCloser: res.Body, rate: c.rate, window: rateWindow, now: time.Now}
	b := &body{ReadCloser: raw, cancel: cancel, idle: c.idle, ctx: ctx}
	b.timer = time.AfterFunc(c.idle, func() {
		cancel(errs.New(errs.Unavailable, "fetch.Read", "the source sent nothing for %s", c.idle))
	})
	b.timer.Stop()
	in, decoded, err := decode(&limit{r: b, left: c.max, max: c.max}, res.Header, packing(final.Path))
	if err != nil {
		_ = b.Close() // nothing more is read of it
		return nil, Info{}, err
	}
	info := Info{Size: res.ContentLength, URL: final.String(), ContentType: res.Header.Get("Content-Type")}
	if decoded {
		in = &limit{r: in, left: c.max, max: c.max, what: " once its content coding is undone"}
		info.Size = -1
	}
	return &content{in, b}, info, nil
}

// content is a body without its content coding.
type content struct {
	io.Reader
	io.Closer
}

// statusText leaves out the phrase that the other side chose.
func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// bare takes the address off an error, since its query may hold a secret.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// failure says why there is no answer.
func failure(err, cause error) error {
	if cause != nil {
		return cause
	}
	if e, ok := errors.AsType[*errs.Error](err); ok {
		return e
	}
	reason := "it cannot be reached"
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		reason = "there is no such host"
	} else if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		reason = "it did not answer in time"
	} else if strings.Contains(err.Error(), "certificate") {
		reason = "its certificate is not valid"
	}
	return errs.Wrap(bare(err), errs.Unavailable, "fetch.Open", "the source cannot be read: %s", reason)
}

// body is an answer's body that must keep coming.
type body struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
}

// Read reads on. Only the wait in it counts, not that between two of them: who
// reads slowly is not the source.
func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.idle)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.ctx); cause != nil {
			return n, cause
		}
		if _, ok := errors.AsType[*errs.Error](err); ok {
			return n, err
		}
		return n, errs.Wrap(err, errs.Unavailable, "fetch.Read", "the source broke off")
	}
	return n, err
}

// Close ends the transfer.
func (b *body) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
