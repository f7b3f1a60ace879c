package httpapi

import (
	"crypto/tls"
	"net/http"
	"testing"
)

// The addresses that are handed out are those by which a request came, unless one is set;
// no header that anybody may add has a part in it.
func TestBase(t *testing.T) {
	t.Parallel()
	const local = "http://127.0.0.1:8000"
	for _, c := range []struct {
		name, public, host string
		tls                bool
		want               base
	}{
		{"set", "https://data.example", "other.example", false, "https://data.example"},
		{"name", "", "data.example", false, "http://data.example"},
		{"port", "", "data.example:8000", false, "http://data.example:8000"},
		{"TLS", "", "data.example", true, "https://data.example"},
		{"IPv4", "", "192.0.2.1:80", false, "http://192.0.2.1:80"},
		{"IPv6", "", "[2001:db8::1]:8000", false, "http://[2001:db8::1]:8000"},
		{"IPv6 without a port", "", "[2001:db8::1]", false, "http://[2001:db8::1]"},
		{"none", "", "", false, local},
		{"path", "", "data.example/x", false, local},
		{"user", "", "me@data.example", false, local},
		{"script", "", `"><script>`, false, local},
		{"query", "", "data.example?x", false, local},
		{"blank", "", "data.example x", false, local},
		{"other letters", "", "dätä.example", false, local},
		{"no port", "", "data.example:", false, local},
		{"large port", "", "data.example:65536", false, local},
		{"half a bracket", "", "[2001:db8::1", false, local},
		{"zone", "", "[fe80::1%25eth0]", false, local},
		{"IPv4 in brackets", "", "[192.0.2.1]", false, local},
	} {
		a := &api{Config: Config{PublicURL: c.public, LocalURL: local}}
		r := &http.Request{Host: c.host, Header: http.Header{
			"X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"host=evil.example;proto=https"},
		}}
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := a.base(r); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
