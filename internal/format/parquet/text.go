package parquet

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/stream"
)

// appendText appends a value in the default form of its type.
func (n *node) appendText(dst []byte, v value) ([]byte, stream.Kind, error) {
	switch n.logical {
	case logString, logEnum:
		return n.appendUTF8(dst, v.bytes, stream.Text)
	case logJSON:
		kind := stream.Text
		if isComposite(v.bytes) {
			kind = stream.JSON
		}
		return n.appendUTF8(dst, v.bytes, kind)
	case logDecimal:
		return n.appendDecimal(dst, v)
	case logDate:
		dst, ok := appendDate(dst, int64(int32(v.bits)))
		return dst, kindIf(ok, stream.Date), nil
	case logTime:
		dst, ok := appendClock(dst, n.integer(v), n.unit)
		return dst, kindIf(ok, stream.Time), nil
	case logTimestamp:
		dst, ok := appendTimestamp(dst, n.integer(v), n.unit, n.adjusted)
		return dst, kindIf(ok, stream.Datetime), nil
	case logUUID:
		b := v.bytes
		for i, part := range [][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:16]} {
			if i > 0 {
				dst = append(dst, '-')
			}
			dst = hex.AppendEncode(dst, part)
		}
		return dst, stream.Text, nil
	case logFloat16:
		return appendFloat(dst, float16(binary.LittleEndian.Uint16(v.bytes)), 32), stream.Number, nil
	case logInterval:
		return appendInterval(dst, v.bytes), stream.Text, nil
	default: // of the others there is nothing to say
	}
	switch n.physical {
	case physBoolean:
		return strconv.AppendBool(dst, v.bits != 0), stream.Boolean, nil
	case physInt32, physInt64:
		if n.unsigned {
			return strconv.AppendUint(dst, v.bits&(1<<(32*int(n.physical))-1), 10), stream.Integer, nil
		}
		return strconv.AppendInt(dst, n.integer(v), 10), stream.Integer, nil
	case physInt96:
		dst, ok := appendInt96(dst, v.bytes)
		return dst, kindIf(ok, stream.Datetime), nil
	case physFloat:
		return appendFloat(dst, float64(math.Float32frombits(uint32(v.bits))), 32), stream.Number, nil
	case physDouble:
		return appendFloat(dst, math.Float64frombits(v.bits), 64), stream.Number, nil
	default: // of the others there is nothing to say
	}
	return base64.StdEncoding.AppendEncode(dst, v.bytes), stream.Text, nil
}

// binary reports whether a column's values are bytes without a text.
func (n *node) binary() bool {
	return n.leaf && (n.physical == physBytes || n.physical == physFixed) && (n.logical == logNone || n.logical == logGeometry || n.logical == logGeography)
}

// kindIf: what a date of the standard cannot say (years 1 to 9999) is text.
func kindIf(ok bool, kind stream.Kind) stream.Kind {
	if ok {
		return kind
	}
	return stream.Text
}

func isComposite(b []byte) bool {
	for _, c := range b {
		switch c {
		case ' ', '\t', '\n', '\r':
			continue
		}
		return c == '{' || c == '['
	}
	return false
}

func (n *node) appendUTF8(dst, text []byte, kind stream.Kind) ([]byte, stream.Kind, error) {
	if !utf8.Valid(text) {
		return dst, kind, &format.Error{Code: format.CodeEncoding, Message: "column \"" + n.name + "\" holds a text that is not UTF-8"}
	}
	return append(dst, text...), kind, nil
}

// integer is a signed value of either width.
func (n *node) integer(v value) int64 {
	if n.physical == physInt32 {
		return int64(int32(v.bits))
	}
	return int64(v.bits)
}

func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "INF"...)
	case math.IsInf(f, -1):
		return append(dst, "-INF"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

// float16 widens a half (IEEE 754).
func float16(b uint16) float64 {
	sign, exponent, fraction := b>>15, int(b>>10&31), float64(b&1023)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(fraction, -24)
	case 31:
		f = math.Inf(1)
		if fraction != 0 {
			return math.NaN()
		}
	default:
		f = math.Ldexp(1024+fraction, exponent-25)
	}
	if sign != 0 {
		f = -f
	}
	return f
}

// maxDecimal bounds the bytes of a decimal: 256 bits are the widest that is written.
const maxDecimal = 512

func (n *node) appendDecimal(dst []byte, v value) ([]byte, stream.Kind, error) {
	kind := stream.Number
	if n.scale == 0 {
		kind = stream.Integer
	}
	b := v.bytes
	if n.physical == physInt32 || n.physical == physInt64 {
		return placePoint(strconv.AppendInt(dst, n.integer(v), 10), len(dst), n.scale), kind, nil
	}
	if len(b) > maxDecimal {
		return dst, kind, unsupported("column %q has a decimal of %d bytes, more than the limit of %d", n.name, len(b), maxDecimal)
	}
	if len(b) <= 8 {
		var i int64
		if len(b) > 0 && b[0] >= 128 {
			i = -1
		}
		for _, c := range b {
			i = i<<8 | int64(c)
		}
		return placePoint(strconv.AppendInt(dst, i, 10), len(dst), n.scale), kind, nil
	}
	i := new(big.Int).SetBytes(b)
	if b[0] >= 128 {
		i.Sub(i, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return placePoint(i.Append(dst, 10), len(dst), n.scale), kind, nil
}

// placePoint puts the decimal point into the integer that begins at start.
func placePoint(dst []byte, start, scale int) []byte {
	if scale == 0 {
		return dst
	}
	if dst[start] == '-' {
		start++
	}
	for len(dst)-start <= scale {
		dst = append(dst, 0)
		copy(dst[start+1:], dst[start:])
		dst[start] = '0'
	}
	at := len(dst) - scale
	dst = append(dst, 0)
	copy(dst[at+1:], dst[at:])
	dst[at] = '.'
	return dst
}

const daySeconds = 86400

func append2(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

// appendDate appends the date of a day since 1970-01-01. false: its year is not
// one of four digits.
func appendDate(dst []byte, days int64) ([]byte, bool) {
	t := time.Unix(days*daySeconds, 0).UTC()
	year, month, day := t.Date()
	ok := year >= 1 && year <= 9999
	if ok {
		dst = append2(append2(dst, year/100), year%100)
	} else {
		dst = strconv.AppendInt(dst, int64(year), 10)
	}
	return append2(append(append2(append(dst, '-'), int(month)), '-'), day), ok
}

func power10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

// appendClock appends a time of day that is counted in units of 10^-unit seconds.
func appendClock(dst []byte, v int64, unit int) ([]byte, bool) {
	per := power10(unit)
	if v < 0 || v >= daySeconds*per {
		return strconv.AppendInt(dst, v, 10), false
	}
	s := int(v / per)
	dst = append2(append(append2(append(append2(dst, s/3600), ':'), s/60%60), ':'), s%60)
	return appendFraction(dst, v%per, unit), true
}

// appendFraction appends a fraction without zeros at its end.
func appendFraction(dst []byte, v int64, digits int) []byte {
	if v == 0 {
		return dst
	}
	dst = append(dst, '.')
	start := len(dst)
	for range digits {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; i >= start; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func floorDiv(a, b int64) (q, r int64) {
	q, r = a/b, a%b
	if r < 0 {
		q, r = q-1, r+b
	}
	return q, r
}

func appendTimestamp(dst []byte, v int64, unit int, zoned bool) ([]byte, bool) {
	day, rest := floorDiv(v, daySeconds*power10(unit))
	dst, ok := appendDate(dst, day)
	dst, _ = appendClock(append(dst, 'T'), rest, unit)
	if zoned {
		dst = append(dst, 'Z')
	}
	return dst, ok
}

// appendInt96 appends the deprecated timestamp: nanoseconds of the day, and the
// Julian day. Whether it was UTC the file does not say.
func appendInt96(dst []byte, b []byte) ([]byte, bool) {
	const epoch = 2440588 // 1970-01-01
	day := int64(int32(binary.LittleEndian.Uint32(b[8:]))) - epoch
	more, nanos := floorDiv(int64(binary.LittleEndian.Uint64(b)), daySeconds*1e9)
	dst, ok := appendDate(dst, day+more)
	dst, _ = appendClock(append(dst, 'T'), nanos, 9)
	return dst, ok
}

// appendInterval appends a duration of XML Schema.
func appendInterval(dst []byte, b []byte) []byte {
	months, days, millis := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	dst = append(dst, 'P')
	if months > 0 {
		dst = append(strconv.AppendUint(dst, uint64(months), 10), 'M')
	}
	if days > 0 {
		dst = append(strconv.AppendUint(dst, uint64(days), 10), 'D')
	}
	if millis > 0 || months == 0 && days == 0 {
		dst = strconv.AppendUint(append(dst, 'T'), uint64(millis/1000), 10)
		dst = append(appendFraction(dst, int64(millis%1000), 3), 'S')
	}
	return dst
}
