// Package weburl says what may be shown of a URL, and which hosts are this machine.
//
// User, password, query and fragment of a URL may be secrets. [Redact] takes them out
// of the URLs in a text, [Setting] out of a value that should be a URL and may be
// anything: neither returns a part of the text whose meaning is in doubt.
package weburl

import (
	"net/netip"
	"net/url"
	"strings"
	"unicode"
)

// NotShown stands for a value of which no part is certain to be no secret.
const NotShown = "(not shown: it may hold a secret)"

// Redact returns a text in which each URL with "://" is without user, password, query
// and fragment. A text without such parts is returned as it is.
func Redact(text string) string {
	if !strings.ContainsAny(text, "?@#") || !strings.Contains(text, "://") {
		return text
	}
	var b strings.Builder
	for {
		at := strings.Index(text, "://")
		if at < 0 {
			break
		}
		begin := strings.LastIndexFunc(text[:at], func(r rune) bool { return !isScheme(r) }) + 1
		end := len(text)
		if n := strings.IndexFunc(text[at:], endsURL); n >= 0 {
			end = at + n
		}
		b.WriteString(text[:begin])
		b.WriteString(Bare(text[begin:end]))
		text = text[end:]
	}
	b.WriteString(text)
	return b.String()
}

func isScheme(r rune) bool {
	return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '+' || r == '-' || r == '.')
}

// endsURL reports whether a letter ends a URL in a text.
func endsURL(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("\"'`<>\\", r)
}

// Bare returns a URL without user, password, query and fragment, and a relative one
// without query and fragment. Of a URL that cannot be parsed all that stands before its
// last "@" is left out as well.
func Bare(address string) string {
	scheme, rest, absolute := strings.Cut(address, "://")
	if !absolute {
		scheme, rest = "", address
	}
	if absolute {
		authority := strings.IndexAny(rest, "/?#")
		if _, err := url.Parse(address); err != nil || authority < 0 {
			authority = len(rest)
		}
		if i := strings.LastIndexByte(rest[:authority], '@'); i >= 0 {
			rest = rest[i+1:]
		}
		scheme += "://"
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i]
	}
	return scheme + rest
}

// Setting returns what an error may show of a value that was given for a URL, or for a
// host: the URL without user, password, query and fragment; or [NotShown].
func Setting(value string) string {
	switch u, err := url.Parse(value); {
	case err != nil, len(value) > 200, u.Opaque != "", strings.Contains(u.Path+u.RawQuery+u.Fragment, "@"), strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		return NotShown
	case u.Scheme == "" && strings.ContainsAny(value, "@?#:"):
		return NotShown
	}
	return Bare(value)
}

// LoopbackHost reports whether a host, or host:port, is this machine: localhost or an
// address of loopback. No name is resolved.
func LoopbackHost(host string) bool {
	u, err := url.Parse("//" + host)
	if err != nil || u.Host != host {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return strings.EqualFold(u.Hostname(), "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// Loopback reports whether a text is an http or https URL of this machine.
func Loopback(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.User == nil && LoopbackHost(u.Host)
}
