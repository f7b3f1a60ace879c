package tableschema

import (
	"strings"
	"time"
	"unicode/utf8"
)

var (
	monthNames = []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}
	dayNames   = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
)

// The combined directives of strptime in the C locale.
var combined = strings.NewReplacer("%%", "%%", "%c", "%a %b %d %H:%M:%S %Y", "%x", "%m/%d/%y", "%X", "%H:%M:%S")

// maxSteps bounds the ways that a pattern is tried in: %d%d%d… may part digits in
// as many ways as there are numbers.
const maxSteps = 10000

// parsePattern reads text by a strptime pattern: the whole of it must match.
func parsePattern(pattern, text string) (moment, bool) {
	steps := maxSteps
	start := patternReader{m: moment{year: 1900, month: 1, day: 1}, text: text, week: -1, isoWeek: -1, weekday: -1}
	end, ok := start.match(combined.Replace(pattern), &steps)
	return end.m, ok
}

// match reads the rest of the pattern. A directive of one or two digits takes two
// where the rest matches then.
func (p patternReader) match(pattern string, steps *int) (patternReader, bool) {
	for pattern != "" {
		if *steps--; *steps < 0 {
			return p, false
		}
		switch c := pattern[0]; {
		case c == '%':
			if len(pattern) == 1 {
				return p, false
			}
			d := pattern[1]
			pattern = pattern[2:]
			for most := p.width(d); most > 1; most-- {
				longer := p
				if !longer.directive(d, most) {
					continue
				}
				if len(longer.text) == len(p.text)-most {
					if end, ok := longer.match(pattern, steps); ok {
						return end, true
					}
				}
			}
			if !p.directive(d, 1) {
				return p, false
			}
		case isBlank(c):
			if len(p.text) == 0 || !isBlank(p.text[0]) {
				return p, false
			}
			p.text = strings.TrimLeft(p.text, " \t\r\n\v\f")
			pattern = strings.TrimLeft(pattern, " \t\r\n\v\f")
		default:
			r, n := utf8.DecodeRuneInString(pattern)
			got, size := utf8.DecodeRuneInString(p.text)
			if size == 0 || !strings.EqualFold(string(r), string(got)) {
				return p, false
			}
			p.text, pattern = p.text[size:], pattern[n:]
		}
	}
	return p, p.text == "" && p.finish()
}

// width is the most digits that a directive of varying width takes, else 1.
func (p *patternReader) width(d byte) int {
	switch d {
	case 'm', 'd', 'H', 'I', 'M', 'S', 'V', 'U', 'W':
		return 2
	case 'j':
		return 3
	case 'f':
		return 6
	}
	return 1
}

func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

type patternReader struct { //nolint:recvcheck // match tries each way on a copy
	m                      moment
	text                   string
	afternoon, twelve      bool
	dayOfYear              int
	week, isoWeek, weekday int
	weekFrom               int // 0 Monday, 6 Sunday: the day that %U and %W count weeks from
	isoYear                int
}

// number reads up to max digits, min at least, with a value in a range.
func (p *patternReader) number(into *int, least, most, from, to int) bool {
	n := 0
	for n < len(p.text) && n < most && isDigit(p.text[n]) {
		n++
	}
	for ; n >= least; n-- {
		v := 0
		for _, c := range []byte(p.text[:n]) {
			v = v*10 + int(c-'0')
		}
		if v >= from && v <= to {
			*into = v
			p.text = p.text[n:]
			return true
		}
	}
	return false
}

// name reads one of some words in any case, its first three letters where short.
func (p *patternReader) name(into *int, names []string, short bool) bool {
	for i, name := range names {
		if short {
			name = name[:3]
		}
		if len(p.text) >= len(name) && strings.EqualFold(p.text[:len(name)], name) {
			*into = i
			p.text = p.text[len(name):]
			return true
		}
	}
	return false
}

// directive reads one; those of varying width take at most so many digits.
func (p *patternReader) directive(d byte, width int) bool {
	m := &p.m
	switch d {
	case '%':
		ok := strings.HasPrefix(p.text, "%")
		p.text = strings.TrimPrefix(p.text, "%")
		return ok
	case 'Y':
		return p.number(&m.year, 4, 4, 1, 9999)
	case 'G':
		return p.number(&p.isoYear, 4, 4, 1, 9999)
	case 'y':
		if !p.number(&m.year, 2, 2, 0, 99) {
			return false
		}
		m.year += 1900
		if m.year < 1969 {
			m.year += 100
		}
		return true
	case 'm':
		return p.number(&m.month, 1, width, 1, 12)
	case 'd':
		return p.number(&m.day, 1, width, 1, 31)
	case 'H':
		return p.number(&m.hour, 1, width, 0, 23)
	case 'I':
		p.twelve = true
		return p.number(&m.hour, 1, width, 1, 12)
	case 'M':
		return p.number(&m.minute, 1, width, 0, 59)
	case 'S':
		return p.number(&m.second, 1, width, 0, 59)
	case 'f':
		n := 0
		for n < len(p.text) && n < width && isDigit(p.text[n]) {
			n++
		}
		m.fraction([]byte(p.text[:n]))
		p.text = p.text[n:]
		return n > 0
	case 'p':
		half := 0
		if !p.name(&half, []string{"am", "pm"}, false) {
			return false
		}
		p.afternoon = half == 1
		return true
	case 'b', 'B':
		if !p.name(&m.month, monthNames, d == 'b') {
			return false
		}
		m.month++
		return true
	case 'a', 'A':
		return p.name(&p.weekday, dayNames, d == 'a')
	case 'u':
		if !p.number(&p.weekday, 1, 1, 1, 7) {
			return false
		}
		p.weekday--
		return true
	case 'w':
		if !p.number(&p.weekday, 1, 1, 0, 6) {
			return false
		}
		p.weekday = (p.weekday + 6) % 7
		return true
	case 'j':
		return p.number(&p.dayOfYear, 1, width, 1, 366)
	case 'V':
		return p.number(&p.isoWeek, 1, width, 1, 53)
	case 'U':
		p.weekFrom = 6
		return p.number(&p.week, 1, width, 0, 53)
	case 'W':
		return p.number(&p.week, 1, width, 0, 53)
	case 'z':
		return p.zone()
	case 'Z':
		zone := 0
		return p.name(&zone, []string{"utc", "gmt"}, false)
	}
	return false
}

// zone reads Z, ±hhmm or ±hh:mm.
func (p *patternReader) zone() bool {
	t := p.text
	if t != "" && (t[0] == 'Z' || t[0] == 'z') {
		p.text = t[1:]
		p.m.zoned = true
		return true
	}
	if len(t) >= 6 && t[3] == ':' {
		t = t[:3] + t[4:]
		p.text = p.text[1:]
	}
	if len(t) < 5 || !allDigits([]byte(t), 1, 2, 3, 4) {
		return false
	}
	p.text = p.text[5:]
	return p.m.setOffset(t[0], number2([]byte(t[1:])), number2([]byte(t[3:])))
}

// finish puts together what the directives gave.
func (p *patternReader) finish() bool {
	m := &p.m
	if p.twelve {
		m.hour %= 12
		if p.afternoon {
			m.hour += 12
		}
	}
	var t time.Time
	switch {
	case p.dayOfYear > 0:
		t = time.Date(m.year, 1, p.dayOfYear, 0, 0, 0, 0, time.UTC)
		if t.Year() != m.year {
			return false
		}
	case p.isoWeek >= 0:
		if p.isoYear == 0 || p.weekday < 0 {
			return false
		}
		// 4 January is always in week 1.
		fourth := time.Date(p.isoYear, 1, 4, 0, 0, 0, 0, time.UTC)
		monday := fourth.AddDate(0, 0, -(int(fourth.Weekday())+6)%7)
		t = monday.AddDate(0, 0, (p.isoWeek-1)*7+p.weekday)
	case p.week >= 0 && p.weekday >= 0:
		first := time.Date(m.year, 1, 1, 0, 0, 0, 0, time.UTC)
		start := (p.weekFrom - (int(first.Weekday())+6)%7 + 7) % 7 // days to the first week's first day
		t = first.AddDate(0, 0, start+(p.week-1)*7+(p.weekday-p.weekFrom+7)%7)
	default:
		return m.validDate() && m.validClock()
	}
	m.year, m.month, m.day = t.Year(), int(t.Month()), t.Day()
	return m.validDate() && m.validClock()
}

// The forms that the format `any` takes, the month before the day where both are
// possible.
var (
	anyDates = []string{
		"%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d",
		"%m/%d/%Y", "%m/%d/%y", "%d/%m/%Y", "%d/%m/%y",
		"%m-%d-%Y", "%m-%d-%y", "%d-%m-%Y", "%d-%m-%y",
		"%m.%d.%Y", "%m.%d.%y", "%d.%m.%Y", "%d.%m.%y",
		"%B %d %Y", "%b %d %Y", "%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%d-%b-%Y", "%d %B, %Y", "%d %b, %Y",
		"%b %d %y", "%d %b %y", "%d-%b-%y",
		"%Y-%m", "%Y/%m", "%B %Y", "%b %Y", // the first day of the month
	}
	anyTimes = []string{
		"%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M:%S%p", "%I:%M %p", "%I:%M%p", "%I %p", "%I%p",
	}
)

// parseAny reads a date, a time or both in one of the usual forms.
func parseAny(text string, wantDate, wantTime bool) (moment, bool) {
	text = strings.Join(strings.Fields(text), " ")
	day, clock := text, ""
	if at := strings.IndexByte(text, ':'); at >= 0 {
		from := strings.LastIndexAny(text[:at], " T")
		if from < 0 {
			day, clock = "", text
		} else {
			day, clock = text[:from], text[from+1:]
		}
	} else if !wantDate {
		day, clock = "", text
	}
	if clock == "" && !wantDate || day == "" && wantDate {
		return moment{}, false
	}
	out := moment{year: 1900, month: 1, day: 1}
	if day != "" {
		if name, rest, ok := strings.Cut(day, " "); ok {
			name = strings.ToLower(strings.TrimSuffix(name, ","))
			for _, d := range dayNames {
				if name == d || name == d[:3] {
					day = rest
				}
			}
		}
		m, ok := firstPattern(anyDates, day)
		if !ok {
			return m, false
		}
		out = m
	}
	if clock != "" {
		clock, zone := cutZone(clock)
		m, ok := firstPattern(anyTimes, clock)
		if !ok {
			return m, false
		}
		out.hour, out.minute, out.second, out.micro = m.hour, m.minute, m.second, m.micro
		if zone != "" {
			z := patternReader{m: out, text: zone}
			if !z.zone() || z.text != "" {
				return out, false
			}
			out = z.m
		}
	}
	return out, wantDate || wantTime
}

// cutZone parts a clock from a zone behind it; UTC and GMT are Z.
func cutZone(clock string) (rest, zone string) {
	for _, name := range []string{" UTC", " GMT", "Z"} {
		if rest, ok := strings.CutSuffix(clock, name); ok {
			return strings.TrimSpace(rest), "Z"
		}
	}
	if at := strings.LastIndexAny(clock, "+-"); at > 0 {
		return strings.TrimSpace(clock[:at]), clock[at:]
	}
	return clock, ""
}

func firstPattern(patterns []string, text string) (moment, bool) {
	for _, p := range patterns {
		if m, ok := parsePattern(p, text); ok {
			return m, true
		}
	}
	return moment{}, false
}
