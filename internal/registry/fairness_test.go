package registry_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/sqldb"
)

// TestMakeRoom: an owner gives flows back while it has more than half of all that run and
// another owner's flow waits that has fewer, and never the last one.
func TestMakeRoom(t *testing.T) {
	for name, c := range map[string]struct {
		held, waiting map[string]int // flows by owner
		want          string         // the owner that loses a flow
	}{
		"nobody waits":                     {map[string]int{"a": 4}, nil, ""},
		"one slot":                         {map[string]int{"a": 1}, map[string]int{"b": 1}, ""},
		"both of two":                      {map[string]int{"a": 2}, map[string]int{"b": 1}, "a"},
		"all of four":                      {map[string]int{"a": 4}, map[string]int{"b": 3}, "a"},
		"half":                             {map[string]int{"a": 2, "b": 2}, map[string]int{"a": 5, "b": 5}, ""},
		"its own flows wait":               {map[string]int{"a": 4}, map[string]int{"a": 9}, ""},
		"more than half, the other waits":  {map[string]int{"a": 3, "b": 1}, map[string]int{"b": 1}, "a"},
		"two of three":                     {map[string]int{"a": 2, "b": 1}, map[string]int{"b": 1}, ""},
		"two of three, a third owner":      {map[string]int{"a": 2, "b": 1}, map[string]int{"c": 1}, "a"},
		"half, and a third owner waits":    {map[string]int{"a": 2, "b": 2}, map[string]int{"c": 1}, ""},
		"nothing runs and everybody waits": {nil, map[string]int{"a": 2, "b": 2}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, f *fixture) {
				for _, owner := range []string{"a", "b", "c"} {
					for i := range c.held[owner] {
						f.push(fmt.Sprintf("%s/held%d", owner, i), registry.Embedded)
					}
				}
				for range c.held["a"] + c.held["b"] + c.held["c"] {
					if claim, err := f.Claim(t.Context(), "holder"); err != nil || claim == nil {
						t.Fatal(claim, err)
					}
				}
				for _, owner := range []string{"a", "b", "c"} {
					for i := range c.waiting[owner] {
						f.push(fmt.Sprintf("%s/waits%d", owner, i), registry.Embedded)
					}
				}
				if flow, err := f.MakeRoom(t.Context(), time.Now().Add(-time.Hour), nil); err != nil || flow != "" {
					t.Errorf("got %q, %v of flows that have not waited, want none", flow, err)
				}
				tickets := 0
				flow, err := f.MakeRoom(t.Context(), time.Now().Add(time.Hour), func(context.Context, sqldb.Tx) error { tickets++; return nil })
				if err != nil || !strings.HasPrefix(flow, c.want) || (flow == "") != (c.want == "") || (tickets == 1) != (c.want != "") {
					t.Fatalf("got %q, %v, %d tickets; want a flow of %q", flow, err, tickets, c.want)
				}
				if flow == "" {
					return
				}
				if r := f.flow(flow); r.Attempt != 2 || r.State != registry.Queued || r.Restarts != 0 {
					t.Errorf("got attempt %d, %s, %d restarts", r.Attempt, r.State, r.Restarts)
				}
				if ok, err := f.Beat(t.Context(), flow, 1, nil); ok || err != nil {
					t.Errorf("the run still holds its flow: %t, %v", ok, err)
				}
				if claim, err := f.Claim(t.Context(), "holder"); err != nil || claim.OwnerID == c.want {
					t.Errorf("got %+v, %v; want another owner's flow", claim, err)
				}
			})
		})
	}
}

// TestMakeRoomTogether: however many processes look, an owner keeps its share.
func TestMakeRoomTogether(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		for i := range 4 {
			f.push(fmt.Sprintf("a/held%d", i), registry.Embedded)
			if _, err := f.Claim(t.Context(), "holder"); err != nil {
				t.Fatal(err)
			}
		}
		f.push("b/waits", registry.Embedded)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 3 {
					if _, err := f.MakeRoom(t.Context(), time.Now().Add(time.Hour), nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		held := 0
		for i := range 4 {
			if f.flow(fmt.Sprintf("a/held%d/1", i)).Attempt == 1 {
				held++
			}
		}
		if held != 1 && held != 2 {
			t.Errorf("got %d flows that are held still, want 1 or 2", held)
		}
	})
}
