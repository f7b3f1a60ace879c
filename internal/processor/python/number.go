package python

import (
	"math"
	"math/big"
	"strconv"

	"github.com/cockroachdb/apd/v3"
	"github.com/datahq/specstore/internal/stream"
)

// decimals is the context that Python's decimal module starts with.
func decimals() *apd.Context {
	c := apd.BaseContext.WithPrecision(28)
	c.Rounding = apd.RoundHalfEven
	c.Traps = 0
	return c
}

// maxExponent bounds what a decimal may be written out to.
const maxExponent = 100_000

// Number is an int, a Decimal or a float.
type Number struct {
	kind stream.Kind // Integer, Number or Float
	i    *big.Int
	d    *apd.Decimal
	f    float64
}

// ParseNumber reads a cell as the number that it is in Python; a boolean is 0 or 1.
// It is false where the cell is none, or has more digits than anybody counts with.
func ParseNumber(kind stream.Kind, text []byte) (Number, bool) {
	switch kind {
	case stream.Boolean:
		n := int64(0)
		if string(text) == "true" {
			n = 1
		}
		return Int(n), true
	case stream.Integer:
		if len(text) > maxExponent { // reading it would take longer than its length says
			return Number{}, false
		}
		i, ok := new(big.Int).SetString(string(text), 10)
		return Number{kind: stream.Integer, i: i}, ok
	case stream.Number:
		d, _, err := apd.NewFromString(string(text))
		return Number{kind: stream.Number, d: d}, err == nil
	case stream.Float:
		f, err := strconv.ParseFloat(string(text), 64)
		return Number{kind: stream.Float, f: f}, err == nil || math.IsInf(f, 0)
	default: // of the others there is nothing to say
	}
	return Number{}, false
}

// Int makes a number of an int.
func Int(n int64) Number { return Number{kind: stream.Integer, i: big.NewInt(n)} }

// Kind is the kind of the cell that the number is written to.
func (n Number) Kind() stream.Kind { return n.kind }

// Append appends what str() gives.
func (n Number) Append(dst []byte) []byte {
	switch n.kind {
	case stream.Integer:
		return n.i.Append(dst, 10)
	case stream.Number:
		return append(dst, n.d.String()...)
	default: // of the others there is nothing to say
	}
	return AppendFloat(dst, n.f)
}

func (n Number) decimal() *apd.Decimal {
	switch n.kind {
	case stream.Integer:
		return apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(n.i), 0)
	case stream.Number:
		return n.d
	default: // of the others there is nothing to say
	}
	d := new(apd.Decimal)
	if _, err := d.SetFloat64(n.f); err != nil {
		d.Form = apd.NaN
	}
	return d
}

func (n Number) float() float64 {
	switch n.kind {
	case stream.Integer:
		f, _ := new(big.Float).SetInt(n.i).Float64()
		return f
	case stream.Number:
		f, _ := strconv.ParseFloat(n.d.String(), 64)
		return f
	default: // of the others there is nothing to say
	}
	return n.f
}

// arithmetic does an operation in the type that both numbers meet in: int, then
// float; a Decimal wins over both, although Python refuses it with a float.
func arithmetic(a, b Number, ints func(z, x, y *big.Int) *big.Int, floats func(x, y float64) float64, decs func(c *apd.Context, z, x, y *apd.Decimal)) Number {
	switch {
	case a.kind == stream.Number || b.kind == stream.Number:
		z := new(apd.Decimal)
		decs(decimals(), z, a.decimal(), b.decimal())
		return Number{kind: stream.Number, d: z}
	case a.kind == stream.Float || b.kind == stream.Float:
		return Number{kind: stream.Float, f: floats(a.float(), b.float())}
	}
	return Number{kind: stream.Integer, i: ints(new(big.Int), a.i, b.i)}
}

// Add gives a + b.
func Add(a, b Number) Number {
	return arithmetic(a, b, (*big.Int).Add, func(x, y float64) float64 { return x + y },
		func(c *apd.Context, z, x, y *apd.Decimal) { _, _ = c.Add(z, x, y) })
}

// Multiply gives a * b.
func Multiply(a, b Number) Number {
	return arithmetic(a, b, (*big.Int).Mul, func(x, y float64) float64 { return x * y },
		func(c *apd.Context, z, x, y *apd.Decimal) { _, _ = c.Mul(z, x, y) })
}

// Divide gives a / n, which is a float for ints. n is not 0.
func Divide(a Number, n int64) Number {
	switch a.kind {
	case stream.Number:
		z := new(apd.Decimal)
		_, _ = decimals().Quo(z, a.d, apd.New(n, 0))
		return Number{kind: stream.Number, d: z}
	case stream.Float:
		return Number{kind: stream.Float, f: a.f / float64(n)}
	default: // of the others there is nothing to say
	}
	f, _ := new(big.Rat).SetFrac(a.i, big.NewInt(n)).Float64()
	return Number{kind: stream.Float, f: f}
}

// Compare orders numbers by value; NaN is below all others.
func Compare(a, b Number) int {
	if a.kind == stream.Integer && b.kind == stream.Integer {
		return a.i.Cmp(b.i)
	}
	if a.kind == stream.Float && b.kind == stream.Float {
		switch {
		case a.f < b.f:
			return -1
		case a.f > b.f:
			return 1
		}
		return 0
	}
	x, y := a.decimal(), b.decimal()
	if xn, yn := x.Form == apd.NaN, y.Form == apd.NaN; xn || yn {
		switch {
		case xn && yn:
			return 0
		case xn:
			return -1
		}
		return 1
	}
	return x.Cmp(y)
}

// DecimalText gives a number as str() gives the Decimal of it: 1e10 is 1E+10. It is
// false where the text is no decimal, or one that nobody can write out.
func DecimalText(text []byte) (string, bool) {
	if len(text) > maxExponent {
		return "", false
	}
	d, _, err := apd.NewFromString(string(text))
	if err != nil || d.Form == apd.Finite && (d.Exponent > maxExponent || d.Exponent < -maxExponent) {
		return "", false
	}
	return d.String(), true
}

// AppendSortKey appends a text that sorts as the number does: by value, exactly.
// Texts that follow do not change the order of different numbers.
func AppendSortKey(dst []byte, n Number) []byte {
	d := n.decimal()
	switch {
	case d.Form == apd.NaN || d.Form == apd.NaNSignaling:
		return append(dst, '0')
	case d.Form == apd.Infinite && d.Negative:
		return append(dst, '1')
	case d.Form == apd.Infinite:
		return append(dst, '5')
	case d.IsZero():
		return append(dst, '3')
	}
	return appendDigitsKey(dst, d.Negative, d.Coeff.String(), int64(d.Exponent))
}

// appendDigitsKey appends the key of a number that is not 0: digits × 10^exponent.
func appendDigitsKey(dst []byte, negative bool, digits string, exponent int64) []byte {
	exponent += int64(len(digits)) // of 0.digits
	for len(digits) > 1 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	const bias = 1 << 36
	if !negative {
		dst = append(dst, '4')
		dst = appendFixed(dst, uint64(exponent+bias))
		return append(append(dst, digits...), '!') // below every digit
	}
	dst = append(dst, '2')
	dst = appendFixed(dst, uint64(bias-exponent))
	for _, c := range []byte(digits) {
		dst = append(dst, '0'+'9'-c)
	}
	return append(dst, '~') // above every digit
}

// appendIntegerKey appends what AppendSortKey does for an integer in plain digits.
func appendIntegerKey(dst, text []byte) []byte {
	digits := string(text)
	negative := digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	if digits == "0" {
		return append(dst, '3')
	}
	return appendDigitsKey(dst, negative, digits, 0)
}

func appendFixed(dst []byte, n uint64) []byte {
	for shift := 36; shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[n>>shift&15])
	}
	return dst
}
