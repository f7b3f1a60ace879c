package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/weburl"
)

// redacted keeps states, kinds of pipelines and times. IDs and titles of pipelines hold
// the names of resources, so that a kind with a number stands for each.
func redacted(r *registry.Revision) *registry.Revision {
	out := *r
	out.Redacted = true
	out.Spec, out.Errors, out.Logs, out.Stats, out.DescriptorKey = nil, nil, nil, nil, ""
	out.Pipelines = make([]registry.Pipeline, len(r.Pipelines))
	seen := map[string]int{}
	for i, p := range r.Pipelines {
		shown := registry.Pipeline{ID: r.ID, Title: "package", State: p.State, Started: p.Started, Finished: p.Finished}
		if name := strings.TrimPrefix(p.ID, r.ID); name != "" {
			shown.Title = kindOf(name)
			seen[shown.Title]++
			shown.ID = fmt.Sprintf("%s/%s-%d", r.ID, shown.Title, seen[shown.Title])
		}
		out.Pipelines[i] = shown
	}
	return &out
}

// kinds are the endings of the names of pipelines that make one form of a resource; of
// two that fit the longer stands first.
var kinds = []string{"csv_preview", "csv", "json", "zip", "parquet", "xlsx", "sqlite"}

// kindOf says what a pipeline makes, by the last part of its ID.
func kindOf(name string) string {
	if strings.TrimPrefix(name, "/") == plan.ReportName {
		return "report"
	}
	for _, kind := range kinds {
		if strings.HasSuffix(name, "_"+kind) {
			return kind
		}
	}
	return "file"
}

// withoutSecrets is a public revision for whoever is not its owner: addresses in it have
// no user, password and query, which may be a signature.
func withoutSecrets(r *registry.Revision) *registry.Revision {
	out := *r
	out.Spec, out.Stats = bareAddresses(r.Spec), bareAddresses(r.Stats)
	out.Errors, out.Logs = bareLines(r.Errors), bareLines(r.Logs)
	out.Pipelines = make([]registry.Pipeline, len(r.Pipelines))
	for i, p := range r.Pipelines {
		p.Stats, p.Errors, p.Log = bareAddresses(p.Stats), bareLines(p.Errors), bareLines(p.Log)
		out.Pipelines[i] = p
	}
	return &out
}

func bareLines(lines []string) []string {
	if lines == nil {
		return nil
	}
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = weburl.Redact(line)
	}
	return out
}

// bareAddresses is a spec, or stats, whose addresses are without user, password and query;
// what has none stays as it is, byte for byte. What it takes is in proportion to the text,
// whatever the number of values in it.
func bareAddresses(text json.RawMessage) json.RawMessage {
	// A letter may be escaped, and a relative address may have a query.
	if !bytes.ContainsAny(text, "?@#") && !bytes.Contains(text, []byte(`\u`)) {
		return text
	}
	var out bytes.Buffer
	options := []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
	b := barer{in: jsontext.NewDecoder(bytes.NewBuffer(text), options...), out: jsontext.NewEncoder(&out, options...)}
	if err := b.value(""); err != nil {
		return nil
	}
	if !b.changed {
		return text
	}
	return bytes.TrimSpace(out.Bytes())
}

// addressKeys are the properties of a spec whose texts are addresses, relative ones too.
var addressKeys = map[string]bool{"path": true, "url": true, mappingKey: true}

// mappingKey is the property of a spec that says where paths lie; its names are paths.
const mappingKey = "resource-mapping"

// barer copies JSON and takes what may be a secret off the addresses in it, names of
// members included.
type barer struct {
	in      *jsontext.Decoder
	out     *jsontext.Encoder
	changed bool
}

// value copies one value; key is the property that holds it.
func (b *barer) value(key string) error {
	switch b.in.PeekKind() {
	case '"':
		token, err := b.in.ReadToken()
		if err != nil {
			return err
		}
		text := token.String()
		shown := weburl.Redact(text)
		if addressKeys[key] && !strings.Contains(text, "://") && !strings.HasPrefix(text, "data:") {
			shown = weburl.Bare(text)
		}
		b.changed = b.changed || shown != text
		return b.out.WriteToken(jsontext.String(shown))
	case '{':
		return b.object(key)
	case '[':
		return b.list(key)
	}
	v, err := b.in.ReadValue()
	if err != nil {
		return err
	}
	return b.out.WriteValue(v)
}

func (b *barer) list(key string) error {
	if err := b.copyToken(); err != nil {
		return err
	}
	for k := b.in.PeekKind(); k != ']'; k = b.in.PeekKind() {
		if err := b.value(key); err != nil {
			return err
		}
	}
	return b.copyToken()
}

func (b *barer) object(key string) error {
	if err := b.copyToken(); err != nil {
		return err
	}
	var bared map[string]bool // names that others may become as well
	for k := b.in.PeekKind(); k != '}'; k = b.in.PeekKind() {
		token, err := b.in.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		shown := weburl.Redact(name)
		inner := name
		if key == mappingKey {
			shown, inner = weburl.Bare(name), key
		}
		if shown != name {
			b.changed = true
			if bared[shown] {
				if err := b.in.SkipValue(); err != nil {
					return err
				}
				continue
			}
			if bared == nil {
				bared = map[string]bool{}
			}
			bared[shown] = true
		}
		if err := b.out.WriteToken(jsontext.String(shown)); err != nil {
			return err
		}
		if err := b.value(inner); err != nil {
			return err
		}
	}
	return b.copyToken()
}

// copyToken copies the begin or the end of an object or a list.
func (b *barer) copyToken() error {
	token, err := b.in.ReadToken()
	if err != nil {
		return err
	}
	return b.out.WriteToken(token)
}
