package processor

import (
	"encoding/json"
	"maps"
	"math"
	"strings"
)

// addResource appends a file. Its `url` is where it is read from, a list where it is
// in several parts; all other parameters are the resource's.
func addResource(p *Package, parameters map[string]any) error {
	name, err := text(parameters, "name")
	if err != nil {
		return err
	}
	urls, err := texts(parameters, "url")
	if err != nil {
		return err
	}
	added := without(parameters, "url")
	// The plan takes all behind the last dot of an address for the extension. The
	// query in it is no format, and may hold a secret that must not be published.
	for _, key := range []string{"format", "path"} {
		if v, ok := added[key].(string); ok {
			if i := strings.IndexAny(v, "?#"); i >= 0 {
				added[key] = v[:i]
			}
		}
	}
	p.Resources = append(p.Resources, &Resource{Name: name, URLs: urls, Descriptor: clone(added), Added: added})
	return nil
}

// streamRemoteResources has every file that was added so far read as a table.
func streamRemoteResources(p *Package, _ map[string]any) error {
	for _, r := range p.Resources {
		if r.Pipeline == "" {
			r.Streaming = true
		}
	}
	return nil
}

// loadPrivateResource appends a file that another pipeline made.
func loadPrivateResource(p *Package, parameters map[string]any) error {
	name, err := text(parameters, "resource")
	if err != nil {
		return err
	}
	url, err := text(parameters, "url")
	if err != nil {
		return err
	}
	if !strings.HasPrefix(url, "dependency://") {
		return invalid("parameter %q must be dependency://PIPELINE", "url")
	}
	streaming, _ := parameters["stream"].(bool)
	p.Resources = append(p.Resources, &Resource{
		Name: name, Made: name, Pipeline: pipelineID(url), Streaming: streaming,
		Descriptor: map[string]any{},
	})
	return nil
}

// updateResource merges an object into the resources of a name.
func updateResource(p *Package, parameters map[string]any) error {
	name, err := text(parameters, "name")
	if err != nil {
		return err
	}
	update, ok := parameters["update"].(map[string]any)
	if !ok {
		return invalid("parameter %q must be an object", "update")
	}
	for _, r := range p.Resources {
		if r.Name != name {
			continue
		}
		maps.Copy(r.Descriptor, clone(update))
		if renamed, ok := update["name"].(string); ok {
			r.Name = renamed
		}
	}
	return nil
}

// clearResources empties the list.
func clearResources(p *Package, _ map[string]any) error {
	p.Resources = nil
	return nil
}

// validateResource puts a report over the tables in the place of all resources.
func validateResource(p *Package, _ map[string]any) error {
	p.Report = &Report{Name: "validation_report", Tables: p.Resources}
	if name, ok := p.Descriptor["name"].(string); ok {
		p.Descriptor["name"] = name + "-report"
	}
	p.Resources = []*Resource{{
		Name: p.Report.Name,
		Descriptor: map[string]any{
			"name": p.Report.Name, "format": "json", "path": "data/" + p.Report.Name + ".json",
			"datahub": map[string]any{"type": "derived/report"}, "profile": "data-resource",
			"description": "Validation report for tabular data",
		},
	}}
	return nil
}

// limit reads the parameter of that name as a number of rows.
func limit(parameters map[string]any) (int, error) {
	n := int64(0)
	switch v := parameters["limit"].(type) {
	case int:
		n = int64(v)
	case json.Number:
		n, _ = v.Int64()
	}
	if n < 1 || n > math.MaxInt32 {
		return 0, invalid("parameter %q must be a number of rows, from 1", "limit")
	}
	return int(n), nil
}

// loadPreview cuts the tables after a number of rows.
func loadPreview(p *Package, parameters map[string]any) (err error) {
	p.Preview, err = limit(parameters)
	return err
}

// loadViews appends a view of the preview of each table.
func loadViews(p *Package, parameters map[string]any) error {
	rows, err := limit(parameters)
	if err != nil {
		return err
	}
	views, _ := p.Descriptor["views"].([]any)
	for _, r := range p.Resources {
		if !r.Streaming {
			continue
		}
		views = append(views, map[string]any{
			"name": "datahub-preview-" + r.Name, "specType": "table",
			"datahub":   map[string]any{"type": "preview"},
			"transform": map[string]any{"limit": rows},
			"resources": []any{strings.TrimSuffix(r.Name, "_csv_preview")},
		})
	}
	p.Descriptor["views"] = views
	return nil
}

// loadModifiedResources names the pipelines whose packages are put together.
func loadModifiedResources(p *Package, parameters map[string]any) error {
	urls, ok := parameters["urls"].([]any)
	if !ok {
		return invalid("parameter %q must be a list", "urls")
	}
	p.Joined = make([]string, 0, len(urls))
	for _, u := range urls {
		m, _ := u.(map[string]any)
		id, err := text(m, "pipeline")
		if err != nil {
			return err
		}
		p.Joined = append(p.Joined, pipelineID(id))
	}
	return nil
}
