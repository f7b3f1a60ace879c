package flowspec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/flowspec"
)

// TestNext: the times that a schedule names, above all where the clocks of its zone are
// changed.
func TestNext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cron, zone, from string
		want             string // the next times, as the clocks of the zone show them
	}{
		"each day":                    {"30 6 * * *", "Europe/London", "2026-01-01T06:30:00Z", "01-02T06:30Z 01-03T06:30Z"},
		"forward, before":             {"30 0 * * *", "Europe/London", "2026-03-28T12:00:00Z", "03-29T00:30Z 03-30T00:30+01:00"},
		"forward, left out":           {"30 1 * * *", "Europe/London", "2026-03-28T12:00:00Z", "03-29T02:00+01:00 03-30T01:30+01:00 03-31T01:30+01:00"},
		"forward, at the change":      {"0 1 * * *", "Europe/London", "2026-03-28T12:00:00Z", "03-29T02:00+01:00 03-30T01:00+01:00"},
		"forward, after":              {"0 2 * * *", "Europe/London", "2026-03-28T12:00:00Z", "03-29T02:00+01:00 03-30T02:00+01:00"},
		"forward, two in the gap":     {"15,45 1 * * *", "Europe/London", "2026-03-28T12:00:00Z", "03-29T02:00+01:00 03-30T01:15+01:00 03-30T01:45+01:00"},
		"forward, each half hour":     {"*/30 * * * *", "Europe/London", "2026-03-29T00:30:00Z", "03-29T02:00+01:00 03-29T02:30+01:00"},
		"forward at midnight":         {"0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "11-04T01:00-02:00 11-05T00:00-02:00"},
		"back, twice there":           {"30 1 * * *", "Europe/London", "2026-10-24T12:00:00Z", "10-25T01:30+01:00 10-26T01:30Z"},
		"back, between the two":       {"30 1 * * *", "Europe/London", "2026-10-25T01:00:00Z", "10-26T01:30Z"},
		"back, each half hour":        {"*/30 * * * *", "Europe/London", "2026-10-25T00:00:00Z", "10-25T01:30+01:00 10-25T01:00Z 10-25T01:30Z 10-25T02:00Z"},
		"half an hour's change":       {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "10-04T02:30+11:00 10-05T02:15+11:00"},
		"a zone that skips a day":     {"0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", "12-31T00:00+14:00 12-30T12:00+14:00"},
		"a leap day":                  {"0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "02-29T00:00Z 02-29T00:00Z"},
		"Sunday as 7":                 {"0 0 * * 7", "UTC", "2026-11-28T00:00:00Z", "11-29T00:00Z 12-06T00:00Z"},
		"Friday to Sunday":            {"0 0 * * 5-7", "UTC", "2026-11-26T00:00:00Z", "11-27T00:00Z 11-28T00:00Z 11-29T00:00Z 12-04T00:00Z"},
		"every second day until 7":    {"0 0 * * 1-7/2", "UTC", "2026-11-28T00:00:00Z", "11-29T00:00Z 11-30T00:00Z 12-02T00:00Z 12-04T00:00Z 12-06T00:00Z"},
		"either day":                  {"0 0 13 * 5", "UTC", "2026-11-12T00:00:00Z", "11-13T00:00Z 11-20T00:00Z"},
		"in another zone than asked":  {"0 9 * * *", "Asia/Tokyo", "2026-01-01T00:00:00Z", "01-02T09:00+09:00"},
		"a minute before":             {"0 9 * * *", "Asia/Tokyo", "2025-12-31T23:59:59Z", "01-01T09:00+09:00"},
		"half an hour beside the UTC": {"0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", "01-01T09:00+05:30"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := flowspec.ParseSchedule(map[string]any{"cron": c.cron, "timezone": c.zone})
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, c.from)
			if err != nil {
				t.Fatal(err)
			}
			zone, err := time.LoadLocation(c.zone)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range strings.FieldsSeq(c.want) {
				next := s.Next(at, time.Time{})
				if !next.After(at) {
					t.Fatalf("after %s comes %s", at, next)
				}
				at = next
				got = append(got, at.In(zone).Format("01-02T15:04Z07:00"))
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestNextEvery: periods keep their rhythm, and what was missed is left out.
func TestNextEvery(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	hour := flowspec.Schedule{Every: time.Hour}
	for name, c := range map[string]struct {
		schedule   flowspec.Schedule
		last, want time.Time
	}{
		"the first":        {hour, time.Time{}, now.Add(time.Hour)},
		"in time":          {hour, now, now.Add(time.Hour)},
		"a little late":    {hour, now.Add(-time.Minute), now.Add(59 * time.Minute)},
		"many missed":      {hour, now.Add(-100*time.Hour - time.Minute), now.Add(59 * time.Minute)},
		"a clock set back": {hour, now.Add(time.Hour), now.Add(time.Hour)},
		"the longest":      {flowspec.Schedule{Every: 1<<63 - 1}, now.Add(-time.Hour), now.Add(1<<63 - 1 - time.Hour)},
		"never":            {flowspec.Schedule{}, now, time.Time{}},
	} {
		if got := c.schedule.Next(now, c.last); !got.Equal(c.want) {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
