package tables

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format"
)

// TestBounded: what is unpacked ends at the bound, with an error that says so.
func TestBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		most int64
		why  string
		want string
	}{
		{10, "", ""},
		{9, "", "the gzip file unpacks to more than 9 bytes, the limit (SPECSTORE_MAX_SOURCE_BYTES)"},
		{9, "too much", "the gzip file unpacks to too much"},
	} {
		b, err := io.ReadAll(&bounded{r: strings.NewReader("0123456789"), what: "gzip", most: c.most, why: c.why})
		if c.want == "" {
			if string(b) != "0123456789" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			continue
		}
		if e, ok := errors.AsType[*format.Error](err); !ok || e.Code != format.CodeSource || e.Message != c.want || int64(len(b)) > c.most {
			t.Errorf("%q, %v; want %q", b, err, c.want)
		}
	}
}
