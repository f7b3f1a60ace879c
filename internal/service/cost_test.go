package service

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/registry"
)

// specOf is a spec of tables of six fields.
func specOf(tables int) []byte {
	var mapping, resources []string
	for i := range tables {
		name := "elements" + strconv.Itoa(i)
		mapping = append(mapping, `"data/`+name+`.csv":"http://example.com/`+name+`.csv"`)
		resources = append(resources, `{"name":"`+name+`","path":"data/`+name+`.csv","format":"csv","mediatype":"text/csv","encoding":"utf-8","schema":{"fields":[
			{"name":"number","type":"integer","title":"Atomic number","constraints":{"required":true,"unique":true,"minimum":1}},
			{"name":"symbol","type":"string","constraints":{"required":true,"pattern":"[A-Z][a-z]?"}},
			{"name":"name","type":"string","constraints":{"required":true}},{"name":"atomic_mass","type":"number"},
			{"name":"phase","type":"string","constraints":{"enum":["gas","liquid","solid"]}},{"name":"discovered","type":"year"}],"primaryKey":"number"}}`)
	}
	return []byte(`{"meta":{"version":1,"ownerid":"me","owner":"me","dataset":"usual","findability":"published"},
		"inputs":[{"kind":"datapackage","url":"http://example.com/datapackage.json","parameters":{"resource-mapping":{` + strings.Join(mapping, ",") + `},
		"descriptor":{"name":"usual","title":"The first 36 chemical elements",
		"licenses":[{"name":"CC0-1.0","title":"CC0 1.0 Universal","path":"https://creativecommons.org/publicdomain/zero/1.0/"}],
		"resources":[` + strings.Join(resources, ",") + `]}}}],"outputs":[],"schedule":"every 1d"}`)
}

// What an upload does before and between its statements: read, check, plan.
func BenchmarkCheckAndPlan(b *testing.B) {
	for _, tables := range []int{1, 10} {
		b.Run(strconv.Itoa(tables), func(b *testing.B) {
			s := New(Parts{Now: time.Now})
			body, at := specOf(tables), time.Now()
			b.ReportAllocs()
			for b.Loop() {
				raw, err := flowspec.ParseJSON(body)
				if err != nil {
					b.Fatal(err)
				}
				spec, err := s.check(raw, registry.Embedded)
				if err != nil {
					b.Fatal(err)
				}
				pipelines, err := plan.Plan(s.planInput(registry.Embedded, plan.Version, spec, 1, at, at))
				if err == nil {
					_, err = s.planned(pipelines, registry.Embedded, at)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
