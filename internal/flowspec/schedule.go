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

// ParseSchedule reads `every 12h`: how long after an upload the next revision is
// made. The unit is one of s, m, h, d, w; a minute is the least.
func ParseSchedule(v any) (time.Duration, error) {
	wrong := func(text string) (time.Duration, error) {
		return 0, errs.New(errs.Invalid, "flowspec.ParseSchedule", "%s", text)
	}
	text, ok := v.(string)
	if !ok {
		return wrong(scheduleNoText)
	}
	text = strings.Trim(text, " \t\r\n")
	text, ok = strings.CutPrefix(text, "every")
	if !ok || text == "" || text[0] != ' ' {
		return wrong(scheduleNoEvery)
	}
	text = strings.Trim(text, " ")
	if text == "" {
		return wrong(scheduleBadUnit)
	}
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
		return period, nil
	}
	return wrong(scheduleTooShort)
}
