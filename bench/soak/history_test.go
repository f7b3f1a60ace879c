package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/client"
)

// good is the history of two pushes of which nothing is wrong.
func good() []record {
	return []record{
		{Kind: pushed, Dataset: "me/d", Key: "a"},
		{Kind: acked, Dataset: "me/d", Key: "a", Flow: "me/d/1"},
		{Kind: seen, Flow: "me/d/1", State: client.Queued, Attempt: 1},
		{Kind: seen, Flow: "me/d/1", State: client.InProgress, Attempt: 1},
		{Kind: fault, Text: "kill"},
		{Kind: seen, Flow: "me/d/1", State: client.Queued, Attempt: 2},
		{Kind: seen, Flow: "me/d/1", State: client.Succeeded, Attempt: 2},
		{Kind: published, Flow: "me/d/1"},
		{Kind: pushed, Dataset: "me/d", Key: "b", Hostile: true},
		{Kind: acked, Dataset: "me/d", Key: "b", Flow: "me/d/2"},
		{Kind: acked, Dataset: "me/d", Key: "b", Flow: "me/d/2"},
		{Kind: seen, Flow: "me/d/2", State: client.Failed, Attempt: 1},
		{Kind: listed, Dataset: "me/d", Revisions: []int{1, 2}},
	}
}

// TestCheck: a history with one fault has that fault alone, so none goes unseen.
func TestCheck(t *testing.T) {
	if got := check(good()); len(got) != 0 {
		t.Errorf("a good history: got %q, want none", got)
	}
	hostile := append([]record{{Kind: pushed, Dataset: "me/d", Key: "h", Hostile: true}, {Kind: refused, Dataset: "me/d", Key: "h", Hostile: true}}, good()...)
	if got := check(hostile); len(got) != 0 {
		t.Errorf("a hostile push that was refused: got %q, want none", got)
	}
	full := good()
	full[6] = record{Kind: seen, Flow: "me/d/1", State: client.Failed, Attempt: 2, Text: "the disk is full"}
	if got := check(full); len(got) != 0 {
		t.Errorf("a good push beside a full disk: got %q, want none", got)
	}
	replace := func(i int, r record) []record {
		h := good()
		h[i] = r
		return h
	}
	with := func(r record) []record { return append(good(), r) }
	for name, c := range map[string]struct {
		history []record
		want    string
	}{
		"lost":           {with(record{Kind: seen, Flow: "me/d/1", Bad: "404"}), "me/d/1 was accepted and is not there"},
		"never accepted": {with(record{Kind: pushed, Dataset: "me/e", Key: "c"}), "the push c was never accepted"},
		"double":         {with(record{Kind: acked, Key: "b", Flow: "me/d/1"}), "the push b is two revisions"},
		"shared":         {with(record{Kind: acked, Key: "x", Flow: "me/d/2"}), "me/d/2 was answered to two pushes"},
		"stuck":          {slices.Delete(good(), 11, 12), "me/d/2 did not end"},
		"good failed":    {replace(6, record{Kind: seen, Flow: "me/d/1", State: client.Failed, Attempt: 2}), "me/d/1 is good and FAILED"},
		"back":           {replace(5, record{Kind: seen, Flow: "me/d/1", State: client.Queued, Attempt: 1}), "went back from INPROGRESS to QUEUED"},
		"attempt back":   {with(record{Kind: seen, Flow: "me/d/1", State: client.Succeeded, Attempt: 1}), "went back from attempt 2 to 1"},
		"undone":         {with(record{Kind: seen, Flow: "me/d/2", State: client.Succeeded, Attempt: 2}), "me/d/2 was FAILED and is SUCCEEDED"},
		"torn":           {replace(7, record{Kind: published, Flow: "me/d/1", Bad: "the file has another hash"}), "another hash"},
		"hole":           {replace(12, record{Kind: listed, Dataset: "me/d", Revisions: []int{1, 3}}), "not dense"},
		"one too many":   {replace(12, record{Kind: listed, Dataset: "me/d", Revisions: []int{1, 2, 3}}), "3 revisions of 2 pushes"},
		"refused":        {with(record{Kind: refused, Dataset: "me/d", Key: "b", Text: "no"}), "was refused"},
		"deaf":           {with(record{Kind: probed, Server: "serve0", Text: "1.2s"}), "serve0 did not answer"},
		"left over":      {with(record{Kind: left, Text: "run-1"}), "left over: run-1"},
		"not erased":     {with(record{Kind: erased, Dataset: "me/f", Bad: "a file answers 200"}), "a file answers 200"},
		"unknown state":  {with(record{Kind: seen, Flow: "me/d/1", State: "DONE", Attempt: 2}), `has the state "DONE"`},
	} {
		t.Run(name, func(t *testing.T) {
			got := check(c.history)
			if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("got %q, want one with %q", got, c.want)
			}
		})
	}
}

// TestHistory: what is added is what is checked.
func TestHistory(t *testing.T) {
	h := newHistory(io.Discard)
	for _, r := range good() {
		h.add(r)
	}
	if got := h.all(); len(got) != len(good()) || got[3].State != client.InProgress {
		t.Errorf("got %+v", got)
	}
}
