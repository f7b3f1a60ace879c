package service

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"strings"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/registry"
)

// result is what is read here of the [engine.Result] of a pipeline. The rest of it, which
// may be long, stays JSON.
type result struct {
	Descriptor struct {
		Resources []struct {
			Name   string          `json:"name"`
			Format string          `json:"format"`
			Rows   json.Number     `json:"rowcount"`
			Hash   string          `json:"hash"`
			Schema json.RawMessage `json:"schema"`
		} `json:"resources"`
	} `json:"descriptor"`
	Outputs []engine.Output `json:"outputs"`
	Sealed  engine.Sealed   `json:"sealed"`
}

// published reads what a pipeline that succeeded recorded; nil where it recorded nothing,
// or another runner or version did, whose records are others.
func published(outputs json.RawMessage) *result {
	r := &result{}
	if len(outputs) == 0 || json.Unmarshal(outputs, r) != nil {
		return nil
	}
	return r
}

// record adds to the end of a pipeline which files its revision names from then on.
func record(c *registry.Claim, ev *registry.Event) (err error) {
	r := published(ev.Outputs)
	if !ev.Success || r == nil {
		return nil
	}
	ev.Files = r.files(strings.TrimPrefix(strings.TrimPrefix(ev.Pipeline, c.FlowID), "/"))
	if ev.Pipeline == c.FlowID {
		ev.DescriptorKey = pkgstore.Key(c.InternalID, r.Sealed.SHA256)
		ev.ContentDigest, err = r.digest()
	}
	return err
}

// files returns what a pipeline published as the registry records it: its files, a table
// in one part, and its descriptor.
func (r *result) files(artifact string) []registry.File {
	files := make([]registry.File, 0, len(r.Outputs)+1)
	for _, o := range r.Outputs {
		f := registry.File{
			Artifact: artifact, Resource: o.Resource, Format: strings.TrimPrefix(path.Ext(o.Path), "."), Path: pkgstore.AddressPath(o.Path),
			SHA256: o.SHA256, Bytes: o.Bytes, FirstRow: 1, Rows: -1,
		}
		for _, d := range r.Descriptor.Resources {
			if d.Name != o.Resource {
				continue
			}
			if d.Format != "" {
				f.Format = d.Format
			}
			if n, err := d.Rows.Int64(); err == nil {
				f.Rows = n
			}
		}
		files = append(files, f)
	}
	return append(files, registry.File{Artifact: artifact, Format: "json", SHA256: r.Sealed.SHA256, Bytes: r.Sealed.Bytes, Rows: -1})
}

// digest returns a hash of what a package holds: name, schema and hash of each resource,
// in their order. It does not depend on addresses, times and IDs.
func (r *result) digest() (string, error) {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, d := range r.Descriptor.Resources {
		schema := d.Schema
		if len(schema) == 0 {
			schema = json.RawMessage("null")
		}
		if err := enc.Encode([]any{d.Name, schema, d.Hash}); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
