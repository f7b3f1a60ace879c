package tableschema

import (
	"strconv"
	"time"
)

// moment is a point in time, a date or a time of day. Without a zone it is only
// comparable with others that have none; for bounds it counts as UTC.
type moment struct {
	year, month, day, hour, minute, second int
	micro                                  int
	zoned                                  bool
	offset                                 int // seconds east of UTC
}

func number2(b []byte) int { return int(b[0]-'0')*10 + int(b[1]-'0') }

func allDigits(b []byte, at ...int) bool {
	for _, i := range at {
		if !isDigit(b[i]) {
			return false
		}
	}
	return true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// date reads exactly yyyy-mm-dd.
func (m *moment) date(b []byte) bool {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' || !allDigits(b, 0, 1, 2, 3, 5, 6, 8, 9) {
		return false
	}
	m.year, m.month, m.day = number2(b)*100+number2(b[2:]), number2(b[5:]), number2(b[8:])
	return m.validDate()
}

func (m *moment) validDate() bool {
	return m.year >= 1 && m.year <= 9999 && m.month >= 1 && m.month <= 12 && m.day >= 1 && m.day <= daysIn(m.year, m.month)
}

// clock reads exactly hh:mm:ss.
func (m *moment) clock(b []byte) bool {
	if len(b) != 8 || b[2] != ':' || b[5] != ':' || !allDigits(b, 0, 1, 3, 4, 6, 7) {
		return false
	}
	m.hour, m.minute, m.second = number2(b), number2(b[3:]), number2(b[6:])
	return m.validClock()
}

// validClock takes 24:00:00, which XML Schema has for the midnight at a day's end.
func (m *moment) validClock() bool {
	return m.hour < 24 && m.minute < 60 && m.second < 60 || m.hour == 24 && m.minute == 0 && m.second == 0 && m.micro == 0
}

// rest reads what may follow a clock: a fraction and a zone.
func (m *moment) rest(b []byte) bool {
	if len(b) > 0 && b[0] == '.' {
		n := digits(b[1:])
		if n == 0 {
			return false
		}
		m.fraction(b[1 : 1+n])
		b = b[1+n:]
	}
	return m.zone(b)
}

// fraction cuts what is finer than a microsecond.
func (m *moment) fraction(b []byte) {
	m.micro = 0
	for i := range 6 {
		m.micro *= 10
		if i < len(b) {
			m.micro += int(b[i] - '0')
		}
	}
}

// zone reads nothing, Z or ±hh:mm.
func (m *moment) zone(b []byte) bool {
	switch {
	case len(b) == 0:
		return true
	case len(b) == 1 && b[0] == 'Z':
		m.zoned, m.offset = true, 0
		return true
	case len(b) == 6 && b[3] == ':' && allDigits(b, 1, 2, 4, 5):
		return m.setOffset(b[0], number2(b[1:]), number2(b[4:]))
	}
	return false
}

func (m *moment) setOffset(sign byte, hours, minutes int) bool {
	if sign != '+' && sign != '-' || hours > 23 || minutes > 59 {
		return false
	}
	m.zoned, m.offset = true, hours*3600+minutes*60
	if sign == '-' {
		m.offset = -m.offset
	}
	return true
}

// datetime reads an XML Schema dateTime.
func (m *moment) datetime(b []byte) bool {
	return len(b) >= 19 && m.date(b[:10]) && b[10] == 'T' && m.clock(b[11:19]) && m.rest(b[19:]) && m.validClock()
}

// micros counts from 0001-01-01T00:00:00Z.
func (m *moment) micros() int64 {
	t := time.Date(m.year, time.Month(m.month), m.day, m.hour, m.minute, m.second, 0, time.UTC)
	return (t.Unix()-int64(m.offset))*1e6 + int64(m.micro)
}

// dayMicros is the time of a day.
func (m *moment) dayMicros() int64 {
	return int64(m.hour%24*3600+m.minute*60+m.second-m.offset)*1e6 + int64(m.micro)
}

func append2(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

func (m *moment) appendDate(dst []byte) []byte {
	dst = append2(append2(dst, m.year/100), m.year%100)
	return append2(append(append2(append(dst, '-'), m.month), '-'), m.day)
}

func (m *moment) appendTime(dst []byte) []byte {
	dst = append2(append(append2(append(append2(dst, m.hour%24), ':'), m.minute), ':'), m.second)
	if m.micro != 0 {
		dst = append(dst, '.')
		dst = append2(append2(append2(dst, m.micro/10000), m.micro/100%100), m.micro%100)
	}
	if !m.zoned {
		return dst
	}
	if m.offset == 0 {
		return append(dst, 'Z')
	}
	offset, sign := m.offset, byte('+')
	if offset < 0 {
		offset, sign = -offset, '-'
	}
	return append2(append(append2(append(dst, sign), offset/3600), ':'), offset/60%60)
}

// appendDatetime writes 24:00:00 as the midnight that it is.
func (m *moment) appendDatetime(dst []byte) []byte {
	if m.hour == 24 {
		t := time.Date(m.year, time.Month(m.month), m.day+1, 0, 0, 0, 0, time.UTC)
		m.year, m.month, m.day, m.hour = t.Year(), int(t.Month()), t.Day(), 0
	}
	return m.appendTime(append(m.appendDate(dst), 'T'))
}

// readTime reads the default form of a time and what a pattern was turned into:
// with a fraction and a zone.
func readTime(b []byte) (m moment, ok bool) {
	if len(b) < 8 || !m.clock(b[:8]) || !m.rest(b[8:]) {
		return m, false
	}
	return m, true
}

// duration is an XML Schema duration: months and seconds, of one sign.
type duration struct {
	neg     bool
	months  int64
	seconds decimal
	whole   int64 // seconds without the fraction
}

const maxDuration = 1 << 50

// parseDuration reads the XML Schema form.
func parseDuration(b []byte) (duration, bool) {
	var d duration
	if len(b) > 0 && b[0] == '-' {
		d.neg = true
		b = b[1:]
	}
	if len(b) < 2 || b[0] != 'P' {
		return d, false
	}
	b = b[1:]
	units, timed, parts := "YMD", false, 0
	var fraction []byte
	for len(b) > 0 {
		if b[0] == 'T' {
			if timed || len(b) == 1 {
				return d, false
			}
			units, timed = "HMS", true
			b = b[1:]
			continue
		}
		n := digits(b)
		if n == 0 || n > 15 || n == len(b) {
			return d, false
		}
		v, _ := strconv.ParseInt(string(b[:n]), 10, 64)
		b = b[n:]
		if b[0] == '.' {
			f := digits(b[1:])
			if f == 0 || f+1 >= len(b) || b[f+1] != 'S' || !timed {
				return d, false
			}
			fraction = b[1 : 1+f]
			b = b[1+f:]
		}
		at := -1
		for i := range units {
			if units[i] == b[0] {
				at = i
			}
		}
		if at < 0 {
			return d, false
		}
		scale := int64(1)
		switch {
		case !timed && at+3-len(units) == 0:
			d.months += v * 12
			scale = 0
		case !timed && b[0] == 'M':
			d.months += v
			scale = 0
		case !timed:
			scale = 86400
		case b[0] == 'H':
			scale = 3600
		case b[0] == 'M':
			scale = 60
		}
		if v > maxDuration {
			return d, false
		}
		d.whole += v * scale
		units = units[at+1:]
		b = b[1:]
		parts++
	}
	if parts == 0 {
		return d, false
	}
	text := strconv.AppendInt(make([]byte, 0, 40+len(fraction)), d.whole, 10)
	text = append(append(text, '.'), fraction...)
	d.seconds = parseDecimal(nil, text)
	if d.neg {
		d.months, d.seconds.neg = -d.months, true
	}
	return d, true
}

func (d duration) appendKey(dst []byte) []byte {
	dst = strconv.AppendInt(dst, d.months, 10)
	return d.seconds.appendKey(append(dst, '|'))
}

// compare orders two durations. Months and seconds have no fixed ratio, so where
// they pull apart a month counts as the twelfth of a Gregorian year.
func (d duration) compare(o duration) int {
	if d.months == o.months {
		return d.seconds.compare(o.seconds)
	}
	const month = 2629746
	total := func(d duration) int64 {
		if d.neg {
			return d.months*month - d.whole
		}
		return d.months*month + d.whole
	}
	switch a, b := total(d), total(o); {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return d.seconds.compare(o.seconds)
}
