package rawstore_test

import (
	"testing"

	"github.com/datahq/specstore/internal/rawstore"
)

// An owner's file is found by an address of any host, and nobody else's by any.
func TestOwnKey(t *testing.T) {
	t.Parallel()
	const sum = "d41d8cd98f00b204e9800998ecf8427e-0"
	for address, want := range map[string]string{
		"http://127.0.0.1:8000/rawstore/o/me/" + sum:                          "me/" + sum,
		"https://data.example/rawstore/o/me/" + sum + "?expires=1&signature=": "me/" + sum,
		"https://data.example/below/rawstore/o/me/" + sum + "#sheet":          "me/" + sum,
		"https://data.example/rawstore/o/me%2F" + sum:                         "me/" + sum,
		"https://data.example/rawstore/o/ann/x/rawstore/o/me/" + sum:          "me/" + sum,
		"https://data.example/rawstore/o/ann/" + sum:                          "",
		"https://data.example/rawstore/o/me2/" + sum:                          "",
		"https://data.example/rawstore/o/me/../ann/" + sum:                    "",
		"https://data.example/rawstore/o/me/%2e%2e/ann/" + sum:                "",
		"https://data.example/rawstore/o/me/rawstore/o/ann/" + sum:            "",
		"https://data.example/rawstore/o/me/" + sum + "/more":                 "",
		"https://data.example/rawstore/o/me/" + sum + "1x":                    "",
		"https://data.example/other/o/me/" + sum:                              "",
		"https://data.example/x?y=/rawstore/o/me/" + sum:                      "",
		"https://data.example/x#/rawstore/o/me/" + sum:                        "",
		"https://user@data.example/rawstore/o/me/" + sum:                      "",
		"ftp://data.example/rawstore/o/me/" + sum:                             "",
		"s3://bucket/rawstore/o/me/" + sum:                                    "",
		"/rawstore/o/me/" + sum:                                               "",
		"me/" + sum:                                                           "",
		"http:///rawstore/o/me/" + sum:                                        "",
		"https://data.example/rawstore/o/me/%zz":                              "",
		"":                                                                    "",
	} {
		key, ok := rawstore.OwnKey("me", address)
		if key != want || ok != (want != "") {
			t.Errorf("%s: %q, %t; want %q", address, key, ok, want)
		}
	}
	if key, ok := rawstore.OwnKey("", "https://data.example/rawstore/o//"+sum); ok {
		t.Errorf("nobody's file is %q", key)
	}
}
