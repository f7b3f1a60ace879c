package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

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
// what has none stays as it is, byte for byte.
func bareAddresses(spec json.RawMessage) json.RawMessage {
	// A letter may be escaped, and a relative address may have a query.
	if !bytes.ContainsAny(spec, "?@#") && !bytes.Contains(spec, []byte(`\u`)) {
		return spec
	}
	v := value(spec)
	changed := false
	v = bare(v, "", &changed)
	if !changed {
		return spec
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return text
}

// addressKeys are the properties of a spec whose texts are addresses, relative ones too.
var addressKeys = map[string]bool{"path": true, "url": true, "resource-mapping": true}

// bare takes what may be a secret off the addresses in a value, keys included. key is the
// property that holds it.
func bare(v any, key string, changed *bool) any {
	switch v := v.(type) {
	case string:
		out := weburl.Redact(v)
		if addressKeys[key] && !strings.Contains(v, "://") && !strings.HasPrefix(v, "data:") {
			out = weburl.Bare(v)
		}
		*changed = *changed || out != v
		return out
	case []any:
		for i := range v {
			v[i] = bare(v[i], key, changed)
		}
	case map[string]any:
		for name, member := range v {
			inner := name
			if key == "resource-mapping" {
				inner = key
			}
			member = bare(member, inner, changed)
			if plain := weburl.Redact(name); plain != name {
				delete(v, name)
				name, *changed = plain, true
			}
			v[name] = member
		}
	}
	return v
}
