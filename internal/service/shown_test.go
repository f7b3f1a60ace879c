package service_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/service"
)

// TestBareAddresses: what may be secret is taken off the addresses in a document, names
// of members included, and nothing else is another value.
func TestBareAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{`{"a": "what? #1 me@x"}`, `{"a": "what? #1 me@x"}`}, // byte for byte
		{`{"path":"https://h/t.csv?s=x#y"}`, `{"path":"https://h/t.csv"}`},
		{`{"path":"https://u:x@h/t.csv"}`, `{"path":"https://h/t.csv"}`},
		{`{"path":"https://h/t.csv\u003fs=x"}`, `{"path":"https://h/t.csv"}`},
		{`{"path":["a.csv?x","b.csv#x"],"note":"a.csv?x"}`, `{"path":["a.csv","b.csv"],"note":"a.csv?x"}`},
		{`{"url":{"path":["t?x"]}}`, `{"url":{"path":["t"]}}`},
		{`{"resource-mapping":{"t.csv?x":"https://h/t?x","https://h/a?x":"b?x"}}`, `{"resource-mapping":{"t.csv":"https://h/t","https://h/a":"b"}}`},
		{`{"https://h/a?x":1,"https://h/a?y":{"k":[2]},"z":3}`, `{"https://h/a":1,"z":3}`},
		{`{"n":[1.50,1e400,-0,12345678901234567890],"t":true,"e":{},"l":[],"z":null,"u":"http://h/?x"}`, `{"n":[1.50,1e400,-0,12345678901234567890],"t":true,"e":{},"l":[],"z":null,"u":"http://h/"}`},
		{`"see https://h/t?x and http://h/u?x."`, `"see https://h/t and http://h/u"`},
	} {
		if got := service.BareAddresses([]byte(c[0])); string(got) != c[1] {
			t.Errorf("%s is shown as %s, want %s", c[0], got, c[1])
		}
	}
	deep := strings.Repeat(`[`, 100) + `"http://h/?x"` + strings.Repeat(`]`, 100)
	if got := service.BareAddresses([]byte(deep)); !bytes.Equal(got, []byte(strings.Replace(deep, "?x", "", 1))) {
		t.Errorf("%s", got)
	}
	for _, broken := range []string{`{"a":"http://h/?x"`, `{"a":"http://h/?x"]`, `?`} {
		if got := service.BareAddresses([]byte(broken)); got != nil {
			t.Errorf("%s is shown as %s", broken, got)
		}
	}
}
