package httpapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"time"
)

// The contract of the routes. A test holds every answer of the package's tests against
// it, and the routes that it has against those of the code.
//
//go:embed openapi.yaml
var contract []byte

// openapi serves the contract, with the media type of RFC 9512.
func (a *api) openapi(w http.ResponseWriter, r *http.Request) error {
	sum := sha256.Sum256(contract)
	h := w.Header()
	h.Set("Content-Type", "application/yaml")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(contract))
	return nil
}
