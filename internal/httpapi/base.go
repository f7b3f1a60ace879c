package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// base is what the addresses begin with that an answer hands out, without a slash at its
// end.
type base string

// base returns the base for a request.
func (a *api) base(r *http.Request) base {
	switch {
	case a.PublicURL != "":
		return base(a.PublicURL)
	case !isHost(r.Host):
		return base(a.LocalURL)
	case r.TLS != nil:
		return base("https://" + r.Host)
	}
	return base("http://" + r.Host)
}

const maxHost = 255 + len(":65535")

// isHost reports whether a text is a host of an http URL, with or without a port: a name of
// letters, digits and "-._", or an IP address, of version 6 in brackets.
func isHost(text string) bool {
	host := text
	if i := strings.LastIndexByte(text, ':'); i > strings.LastIndexByte(text, ']') {
		host = text[:i]
		if n, err := strconv.ParseUint(text[i+1:], 10, 16); err != nil || n == 0 {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && addr.Is6() && addr.Zone() == "" && strings.HasSuffix(inner, "]")
	}
	return host != "" && len(text) <= maxHost && !strings.ContainsFunc(host, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// raw is the address of uploaded files.
func (b base) raw() string { return string(b) + "/rawstore/o" }

// packages is the address of published files.
func (b base) packages() string { return string(b) + "/pkgstore" }

// source is the address of a dataset, or of a revision, by its ID.
func (b base) source(id string) string { return string(b) + "/source/" + escapePath(id) }

// completed returns stats of a flow as they are answered: the address of a descriptor of
// our own is kept without that of the server.
func (b base) completed(flowID string, stats json.RawMessage) json.RawMessage {
	const member = `"out-datapackage-url":"`
	at := bytes.Index(stats, []byte(member))
	if at < 0 {
		return stats
	}
	value := stats[at+len(member):]
	if len(value) == 0 || value[0] < '0' || value[0] > '9' { // the number of a revision
		return stats
	}
	end := bytes.IndexByte(value, '"')
	var path string
	if end < 0 || json.Unmarshal(slices.Concat([]byte{'"'}, value[:end+1]), &path) != nil {
		return stats
	}
	dataset := flowID[:strings.LastIndexByte(flowID, '/')+1]
	quoted, err := json.Marshal(b.packages() + "/" + escapePath(dataset+path))
	if err != nil {
		return stats
	}
	return slices.Concat(stats[:at+len(member)], quoted[1:], value[end+1:])
}
