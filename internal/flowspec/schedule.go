package flowspec

import (
	"math"
	"strconv"
	"strings"
	"time"

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

// cronFields are the fields of a cron text with what is allowed in them.
var cronFields = [...]struct {
	name     string
	min, max int
}{
	{"minute", 0, 59}, {"hour", 0, 23}, {"day of the month", 1, 31}, {"month", 1, 12}, {"day of the week", 0, 7},
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
		for part := range strings.SplitSeq(fields[i], ",") {
			if !cronPart(part, f.min, f.max) {
				return wrong("Schedule's cron has a bad %s %q: *, numbers from %d to %d, ranges a-b, steps /n and lists with commas are allowed", f.name, fields[i], f.min, f.max)
			}
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
	return Schedule{Cron: strings.Join(fields, " "), Timezone: zone}, nil
}

// cronPart reports whether a part of a list is *, n or a-b, the first and the last
// with or without a step.
func cronPart(part string, least, most int) bool {
	number := func(s string) (int, bool) {
		n, err := strconv.Atoi(s)
		return n, err == nil && allDigits(s)
	}
	part, step, stepped := strings.Cut(part, "/")
	if n, ok := number(step); stepped && (!ok || n < 1 || n > most) {
		return false
	}
	if part == "*" {
		return true
	}
	first, last, ranged := strings.Cut(part, "-")
	a, ok := number(first)
	if !ok || a < least || a > most {
		return false
	}
	if !ranged {
		return !stepped
	}
	b, ok := number(last)
	return ok && b >= a && b <= most
}
