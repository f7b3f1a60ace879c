package flowspec

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/datahq/specstore/internal/errs"
)

// The texts that clients know for schedules that are wrong.
const (
	scheduleNoText   = "Schedule should be a string"
	scheduleNoEvery  = "Schedule should start with 'every'"
	scheduleBadUnit  = "Bad time unit for schedule, only s/m/h/d/w are allowed"
	scheduleBadCount = "Failed to parse time number"
	scheduleTooShort = "Can't schedule tasks for less than one minute"
)

var units = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}

// Schedule says when further revisions of a dataset are made. The zero value is
// never; else either Every or Cron is there.
type Schedule struct {
	Every    time.Duration // after the one before; a minute or more
	Cron     string        // five fields, as crontab(5) has them
	Timezone string        // of Cron: a name of the IANA time zone database
}

// ParseSchedule reads the `schedule` of a spec: nil, a text `every 12h` (the unit is
// one of s, m, h, d, w; a minute is the least), or an object with `cron` and
// `timezone`. The machine's time zone database says which zones there are. Its
// error is Invalid.
func ParseSchedule(v any) (Schedule, error) {
	switch v := v.(type) {
	case nil:
		return Schedule{}, nil
	case string:
		return parseEvery(v)
	case map[string]any:
		return parseCron(v)
	}
	return wrong(scheduleNoText)
}

func wrong(format string, args ...any) (Schedule, error) {
	return Schedule{}, errs.New(errs.Invalid, "flowspec.ParseSchedule", format, args...)
}

func parseEvery(text string) (Schedule, error) {
	text = strings.Trim(text, " \t\r\n")
	text, ok := strings.CutPrefix(text, "every")
	if !ok || text == "" || text[0] != ' ' {
		return wrong(scheduleNoEvery)
	}
	// The text was trimmed, so something stands behind the blank.
	text = strings.Trim(text, " ")
	unit, ok := units[text[len(text)-1]]
	if !ok {
		return wrong(scheduleBadUnit)
	}
	count := text[:len(text)-1]
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || !allDigits(count) || n > math.MaxInt64/int64(unit) {
		return wrong(scheduleBadCount)
	}
	if period := time.Duration(n) * unit; period >= time.Minute {
		return Schedule{Every: period}, nil
	}
	return wrong(scheduleTooShort)
}

// cronFields are the fields of a cron text, and what an error says is allowed in them.
var cronFields = [...]struct{ name, allowed string }{
	{"minute", "0 to 59"}, {"hour", "0 to 23"}, {"day of the month", "1 to 31"}, {"month", "1 to 12, or JAN to DEC"}, {"day of the week", "0 to 7, or SUN to SAT"},
}

const maxCron = 1000 // bytes

func parseCron(m map[string]any) (Schedule, error) {
	for k := range m {
		if k != "cron" && k != "timezone" {
			return wrong("Schedule has cron and timezone only, not %q", k)
		}
	}
	text, ok := m["cron"].(string)
	if !ok {
		return wrong("Schedule needs a text cron")
	}
	fields := strings.Fields(text)
	if len(fields) != len(cronFields) || len(text) > maxCron {
		return wrong("Schedule's cron must have five fields: minute, hour, day of the month, month, day of the week") //nolint:dupword // a list
	}
	for i, f := range cronFields {
		if !cronField(i, fields[i]) {
			return wrong("Schedule's cron has a bad %s %q: *, values (%s), ranges a-b, steps /n and lists with commas are allowed", f.name, fields[i], f.allowed)
		}
	}
	zone := "UTC"
	if v := m["timezone"]; v != nil {
		if zone, ok = v.(string); !ok {
			return wrong("Schedule's timezone must be a text")
		}
		// Two names that the library has and the database has not.
		if zone == "" || zone == "Local" {
			return wrong("Schedule has an unknown timezone %q", zone)
		}
		if _, err := time.LoadLocation(zone); err != nil {
			return wrong("Schedule has an unknown timezone %q", zone)
		}
	}
	s := Schedule{Cron: strings.Join(fields, " "), Timezone: zone}
	if s.Next(time.Unix(0, 0), time.Time{}).IsZero() {
		return wrong("Schedule's cron %q names a day that never comes", text)
	}
	return s, nil
}

// cronField reports whether a field is one, by the parser that computes the times. It takes
// more than crontab(5) has: empty items and signs.
func cronField(i int, field string) bool {
	for item := range strings.SplitSeq(field, ",") {
		if item == "" || strings.ContainsFunc(item, func(r rune) bool {
			return r != '*' && r != '-' && r != '/' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		}) {
			return false
		}
	}
	alone := [...]string{"*", "*", "*", "*", "*"}
	alone[i] = field
	_, err := cron.ParseStandard(cronText(alone[:]))
	return err == nil
}

// cronText joins the fields for the parser, which has Sunday as 0 alone.
func cronText(fields []string) string {
	fields = slices.Clone(fields)
	days := strings.Split(fields[4], ",")
	for i, item := range days {
		span, step, stepped := strings.Cut(item, "/")
		from, to, ranged := strings.Cut(span, "-")
		n, err := strconv.Atoi(from)
		switch {
		case item == "7":
			days[i] = "0"
		case ranged && to == "7" && err == nil && n >= 0 && n <= 7:
			each := 1
			if stepped {
				if each, err = strconv.Atoi(step); err != nil || each < 1 {
					continue // the parser refuses it
				}
			}
			var list []string
			for day := n; day <= 7; day += each {
				list = append(list, strconv.Itoa(day%7))
			}
			days[i] = strings.Join(list, ",")
		}
	}
	fields[4] = strings.Join(days, ",")
	return strings.Join(fields, " ")
}

// Next returns the first time after t that the schedule names, in UTC; the zero time where
// there is none.
//
// A period counts from last, the time that was due before; where that is zero, from t. All
// whole periods until t are left out, so that a server that was down catches up with one
// run. A cron text is read in its time zone. One with a fixed minute and hour has one time
// on each of its days, as in cron(8): where the clocks go forward over it, it is the
// moment of the change, and where they go back, the first of the two.
func (s Schedule) Next(t, last time.Time) time.Time {
	if s.Every > 0 {
		if last.IsZero() || last.After(t) {
			return t.Add(s.Every).UTC()
		}
		since := t.Sub(last)
		return last.Add(since - since%s.Every + s.Every).UTC()
	}
	if s.Cron == "" {
		return time.Time{}
	}
	zone, err := time.LoadLocation(s.Timezone)
	if err != nil {
		return time.Time{}
	}
	fields := strings.Fields(s.Cron)
	times, err := cron.ParseStandard(cronText(fields))
	if err != nil {
		return time.Time{}
	}
	if strings.HasPrefix(fields[0], "*") || strings.HasPrefix(fields[1], "*") {
		return utc(times.Next(t.In(zone)))
	}
	// The wall clock as if it were UTC, which has no changes.
	local := t.In(zone)
	_, offset := local.Zone()
	wall := local.Add(time.Duration(offset) * time.Second).UTC()
	for {
		if wall = times.Next(wall); wall.IsZero() {
			return time.Time{}
		}
		if at := instant(wall, zone); at.After(t) {
			return at.UTC()
		}
	}
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// instant is when the clocks of a zone show a time for the first time. One that they leave
// out is the moment of the change.
func instant(wall time.Time, zone *time.Location) time.Time {
	// No zone is a day away from UTC, and changes are days apart.
	low, high := wall.Add(-24*time.Hour), wall.Add(24*time.Hour)
	shows := func(t time.Time) time.Time {
		_, offset := t.In(zone).Zone()
		return t.Add(time.Duration(offset) * time.Second)
	}
	_, before := low.In(zone).Zone()
	_, after := high.In(zone).Zone()
	first := wall.Add(-time.Duration(max(before, after)) * time.Second)
	second := wall.Add(-time.Duration(min(before, after)) * time.Second)
	switch {
	case shows(first).Equal(wall):
		return first
	case shows(second).Equal(wall):
		return second
	}
	// In between the clocks go forward: find when.
	for low, high = first, second; high.Sub(low) > time.Second; {
		if middle := low.Add(high.Sub(low) / 2); shows(middle).Before(wall) {
			low = middle
		} else {
			high = middle
		}
	}
	return high.Truncate(time.Second)
}
