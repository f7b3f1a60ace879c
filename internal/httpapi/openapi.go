package httpapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
)

// The contract of the routes. A test holds every answer of the package's tests against
// it, and the routes that it has against those of the code.
//
//go:embed openapi.yaml
var contract []byte

// openapi serves the contract, with the media type of RFC 9512.
func (a *api) openapi(w http.ResponseWriter, r *http.Request) error {
	return serveDocument(w, r, "application/yaml", contract)
}

// schemas are the JSON Schemas that are published, by file name.
func schemas() map[string][]byte {
	return map[string][]byte{
		"flow-spec.json":      flowspec.Schema(),
		"data-package-1.json": datapackage.Schema(1),
		"data-package-2.json": datapackage.Schema(2),
	}
}

// schema serves one of the published JSON Schemas.
func (a *api) schema(w http.ResponseWriter, r *http.Request) error {
	text, ok := schemas()[r.PathValue("name")]
	if !ok {
		return errs.New(errs.NotFound, "httpapi.schema", "there is no such schema; there are %s", strings.Join(slices.Sorted(maps.Keys(schemas())), ", "))
	}
	return serveDocument(w, r, "application/schema+json", text)
}

// serveDocument serves a text that changes with the program only.
func serveDocument(w http.ResponseWriter, r *http.Request, contentType string, text []byte) error {
	sum := sha256.Sum256(text)
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	return nil
}
