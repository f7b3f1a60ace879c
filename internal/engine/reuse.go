package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/processor"
)

// inputs is all that the outputs of a pipeline depend on. The hash of its JSON stands
// for them: outputs are the same bytes for the same inputs.
type inputs struct {
	Engine      string
	Steps       []plan.Step
	Preview     int
	ContentType string
	Files       []fileInputs
	Made        []map[string]any // descriptors of what is made of the files together
	Packed      map[string]any   // descriptor in an archive
}

// fileInputs is a file that goes into an output, and how it is read.
type fileInputs struct {
	Source     string // SHA-256 of a source
	Shown      string // what the report calls the source
	Pipeline   string // inputs of the pipeline that made the file, where one did
	Made       string // its name there
	Added      map[string]any
	Descriptor map[string]any
	Streaming  bool
	Text       string
	Refers     []fileInputs // tables that the table refers to
}

func hashJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// inputsOf is the hash of a pipeline's inputs, empty where one of them is not known.
func (r *run) inputsOf(n *node) string {
	pkg := n.pkg
	in := inputs{Engine: Version, Steps: pkg.Steps, Preview: pkg.Preview, ContentType: pkg.Dump.ContentType}
	files := pkg.Resources
	switch {
	case pkg.Joined != nil:
		return "" // it holds the flow's ID and time
	case pkg.Report != nil:
		files = pkg.Report.Tables
	case pkg.Zip != nil:
		files, in.Packed = pkg.Zip.Resources, timeless(pkg.Zip.Descriptor)
	case pkg.Database != nil:
		files = pkg.Database.Tables
	}
	if pkg.Report != nil || pkg.Zip != nil || pkg.Database != nil {
		for _, res := range pkg.Resources {
			in.Made = append(in.Made, res.Descriptor)
		}
	}
	for _, res := range files {
		f, ok := r.fileInputs(res, res.Streaming || pkg.Report != nil)
		if !ok {
			return ""
		}
		if pkg.Report != nil {
			f.Shown = r.source(res.URLs).info.Name
		}
		in.Files = append(in.Files, f)
	}
	hash, err := hashJSON(in)
	if err != nil {
		return "" // then it is made again
	}
	return hash
}

// fileInputs tells what a file is, and where it is read as a table what that refers to;
// false where something of it is not known.
func (r *run) fileInputs(res *processor.Resource, table bool) (fileInputs, bool) {
	f := fileInputs{Made: res.Made, Added: res.Added, Descriptor: res.Descriptor, Streaming: res.Streaming, Text: string(res.Text)}
	if res.Pipeline != "" {
		if by := r.byID[res.Pipeline]; by != nil {
			f.Pipeline = by.inputs
		}
		return f, f.Pipeline != ""
	}
	if res.URLs == nil {
		return f, true
	}
	if f.Source = r.source(res.URLs).digest; f.Source == "" {
		return f, false
	}
	if !table {
		return f, true
	}
	schema, err := parseSchema(res.Added)
	if err != nil {
		return f, true // the report says it
	}
	for _, key := range schema.ForeignKeys {
		to := r.named[key.Resource]
		if to == nil {
			f.Refers = append(f.Refers, fileInputs{Made: key.Resource})
			continue
		}
		if to.source.digest == "" {
			return f, false
		}
		f.Refers = append(f.Refers, fileInputs{Source: to.source.digest, Added: to.resource.Added})
	}
	return f, true
}

// inputsOfTable is the hash of all that the report says of a table.
func (r *run) inputsOfTable(t *table) string {
	f, ok := r.fileInputs(t.resource, true)
	if !ok {
		return ""
	}
	f.Shown = t.source.info.Name
	hash, err := hashJSON(inputs{Engine: Version, Files: []fileInputs{f}})
	if err != nil {
		return ""
	}
	return hash
}

// identify finds out what a source's bytes are, before anything is made of them. Where
// their hash is not known they are read for it.
func (r *run) identify(s *source) {
	r.reading.add(job{
		begin: func() {},
		work: func(ctx context.Context) error {
			body, err := r.open(ctx, s)
			if err != nil {
				return err
			}
			if s.digest = s.info.SHA256; s.digest != "" {
				return body.Close()
			}
			s.body = body
			return nil
		},
		then: func(err error) { // it shows again when the source is read
			if err == nil && s.body != nil {
				r.reading.addFirst(job{
					begin: func() { r.begin(s) },
					work:  func(ctx context.Context) error { return r.fetch(ctx, s) },
					then:  func(error) {},
				})
			}
		},
	})
}

// fetch reads an opened source into its spool.
func (r *run) fetch(ctx context.Context, s *source) error {
	defer s.closeBody()
	spool, err := newSpool(r.Temp)
	if err != nil {
		return err
	}
	if _, err := io.Copy(spool, r.counted(ctx, s, s.body)); err != nil {
		spool.close()
		return err
	}
	s.spool, s.digest = spool, spool.sum()
	return nil
}

// reuse ends the pipelines that published the same in an earlier flow, and keeps what
// the report of one said of tables that need not be read again.
func (r *run) reuse(ctx context.Context) {
	for _, n := range r.nodes {
		if n.pkg == nil || n.ended && !n.success {
			continue
		}
		if !n.ended {
			n.inputs = r.inputsOf(n)
		}
		if n.ended || n.inputs == "" || !succeeded(n.deps) {
			continue
		}
		for _, e := range r.Earlier[n.artifact] {
			if e.Result.Inputs != n.inputs || !r.there(ctx, e.Result) {
				continue
			}
			result := *e.Result
			if result.Reused == "" {
				result.Reused = e.FlowID
			}
			n.started, n.ended, n.success, n.result = true, true, true, &result
			n.logf("the inputs are those of %s: its files are published again", result.Reused)
			r.send(Event{Pipeline: n.id, Kind: Finish, Success: true, Log: n.log, Result: n.result})
			break
		}
	}
	for _, n := range r.nodes {
		if n.pkg != nil && n.pkg.Report != nil && !n.ended {
			for _, e := range r.Earlier[n.artifact] {
				if err := r.remember(ctx, e.Result); err != nil {
					// Then the tables are read.
					r.Log.WarnContext(ctx, "an earlier report cannot be read", "flow", e.FlowID, "error", err)
				}
			}
		}
	}
}

func succeeded(nodes []*node) bool {
	for _, n := range nodes {
		if !n.success {
			return false
		}
	}
	return true
}

// there reports whether the files of a result are still there.
func (r *run) there(ctx context.Context, result *Result) bool {
	for _, o := range result.Outputs {
		if !r.Sink.Has(ctx, o.Key, o.Bytes) {
			return false
		}
	}
	return true
}

// remember keeps what an earlier report said of the tables that nothing but the report
// wants to be read.
func (r *run) remember(ctx context.Context, report *Result) error {
	wanted := map[string]*table{}
	for name, hash := range report.Parts {
		if t := r.named[name]; t != nil && t.told == nil && !t.makes() && hash == r.inputsOfTable(t) {
			wanted[name] = t
		}
	}
	if len(wanted) == 0 || len(report.Outputs) != 1 || !r.there(ctx, report) {
		return nil
	}
	body, err := r.Sink.Open(ctx, report.Outputs[0].Key)
	if err != nil {
		return fmt.Errorf("engine.remember: %w", err)
	}
	defer body.Close()
	dec := json.NewDecoder(format.Bound(ctx, body))
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("engine.remember: %w", err)
	}
	for dec.More() {
		var entry json.RawMessage
		if err := dec.Decode(&entry); err != nil {
			return fmt.Errorf("engine.remember: %w", err)
		}
		var of struct {
			Resource string `json:"resource"`
		}
		if err := json.Unmarshal(entry, &of); err != nil {
			return fmt.Errorf("engine.remember: %w", err)
		}
		if t := wanted[of.Resource]; t != nil {
			t.told = entry
		}
	}
	return nil
}

// timeless is a descriptor without what differs from flow to flow.
func timeless(descriptor map[string]any) map[string]any {
	datahub, ok := descriptor["datahub"].(map[string]any)
	if !ok {
		return descriptor
	}
	datahub = maps.Clone(datahub)
	for _, k := range []string{"flowid", "created", "modified"} {
		delete(datahub, k)
	}
	descriptor = maps.Clone(descriptor)
	descriptor["datahub"] = datahub
	return descriptor
}
