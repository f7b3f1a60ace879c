package main

import (
	"archive/zip"
	"bufio"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// fields are those of the table, with the types of a usual one.
var fields = []map[string]any{
	{"name": "id", "type": "integer"},
	{"name": "group", "type": "string"},
	{"name": "qty", "type": "integer"},
	{"name": "price", "type": "number"},
	{"name": "day", "type": "date"},
	{"name": "at", "type": "datetime"},
	{"name": "ok", "type": "boolean"},
	{"name": "note", "type": "string"},
}

// makeTable writes the table, its descriptor, and the specs of its flows. The same
// number of rows gives the same bytes.
func (b *bench) makeTable(rows int) (size int64, err error) {
	f, err := os.Create(b.path("table.csv"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.WriteString("id,group,qty,price,day,at,ok,note\n"); err != nil {
		return 0, err
	}
	groups := []string{"alpha", "beta", "gamma", "delta", "épsilon", "zeta"}
	words := []string{"river", "copper", "lamp", "Öl", "señal", "quiet harbour", "a longer note, with a comma", "東京"}
	day := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	seed := uint64(1)
	random := func(n uint64) uint64 { // Knuth's linear congruential generator, MMIX
		seed = seed*6364136223846793005 + 1442695040888963407
		return (seed >> 33) % n
	}
	var line []byte
	for i := range rows {
		line = strconv.AppendInt(line[:0], int64(i+1), 10)
		line = append(append(line, ','), groups[random(6)]...)
		line = append(line, ',')
		if random(20) > 0 {
			line = strconv.AppendUint(line, random(1000), 10)
		}
		line = append(line, ',')
		line = strconv.AppendUint(line, random(100_000), 10)
		line = append(line, '.', byte('0'+random(10)), byte('0'+random(10)), ',')
		line = day.AddDate(0, 0, int(random(12_000))).AppendFormat(line, "2006-01-02,")
		line = day.Add(time.Duration(random(1_000_000_000))*time.Second).AppendFormat(line, "2006-01-02T15:04:05Z,")
		line = strconv.AppendBool(line, random(3) > 0)
		note := words[random(8)]
		line = append(line, ',')
		if note[0] == 'a' {
			line = append(append(append(line, '"'), note...), '"')
		} else {
			line = append(line, note...)
		}
		line = append(line, '\n')
		if _, err := w.Write(line); err != nil {
			return 0, err
		}
	}
	if err := errors.Join(w.Flush(), b.makeSpecs()); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (b *bench) makeSpecs() error {
	descriptor := map[string]any{"name": "bench", "profile": "tabular-data-package", "resources": []any{map[string]any{
		"name": "table", "path": "table.csv", "format": "csv", "profile": "tabular-data-resource", "schema": map[string]any{"fields": fields},
	}}}
	spec := map[string]any{
		"meta": map[string]any{"version": 1, "ownerid": "bench", "dataset": "bench", "findability": "published"},
		"inputs": []any{map[string]any{
			"kind": "datapackage", "url": "datapackage.json", "parameters": map[string]any{"descriptor": descriptor},
		}},
	}
	all := maps.Clone(spec)
	all["outputs"] = []any{map[string]any{"kind": "parquet"}, map[string]any{"kind": "sqlite"}}
	types := map[string]any{}
	for _, f := range fields {
		types[fmt.Sprint(f["name"])] = map[string]any{"type": f["type"]}
	}
	types["at"] = map[string]any{"type": "datetime", "format": "%Y-%m-%dT%H:%M:%SZ"}
	pipeline := map[string]any{"table": map[string]any{"pipeline": []any{
		map[string]any{"run": "load", "parameters": map[string]any{"from": "table.csv", "name": "table"}},
		map[string]any{"run": "set_types", "parameters": map[string]any{"types": types}},
		map[string]any{"run": "dump_to_path", "parameters": map[string]any{"out-path": "dumped"}},
	}}}
	for name, v := range map[string]any{"datapackage.json": descriptor, "pipeline-spec.yaml": pipeline, "standard.json": spec, "all.json": all} {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.path(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// archive compares the entries of the archive that the last run left with what the
// standard library's deflate makes of them at level 6.
func (b *bench) archive() error {
	names, err := filepath.Glob(b.path("out/data/*.zip"))
	if err != nil || len(names) != 1 {
		return fmt.Errorf("%d archives in the package: %w", len(names), err)
	}
	r, err := zip.OpenReader(names[0])
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	fmt.Println("| entry of the ZIP | bytes | compressed | to the standard library's level 6 |\n|---|---|---|---|")
	for _, f := range r.File {
		if f.UncompressedSize64 < 1<<20 {
			continue // too small to tell
		}
		size, err := deflated(f)
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %d | %d | %.3f |\n", f.Name, f.UncompressedSize64, f.CompressedSize64, float64(f.CompressedSize64)/float64(size))
	}
	return nil
}

func deflated(f *zip.File) (size int64, err error) {
	body, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var n counter
	w, err := flate.NewWriter(&n, 6)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(w, body)
	return int64(n), errors.Join(err, w.Close())
}

// counter counts what is written.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
