package python

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	patterns "github.com/datahq/specstore/internal/pattern"
)

const maxPattern = 4096 // bytes

// Regexp is an expression in the syntax of Python's re, which is searched for in
// time in proportion to the text.
//
// Characters classes are those of Unicode, as Python has them; \b alone knows
// ASCII only. Look-around, back-references, conditions, and the flags a, L and x
// are refused.
type Regexp struct{ re *regexp.Regexp }

// Compile reads an expression, for whose memory the budget pays. Its error is Invalid.
func Compile(pattern string, budget *patterns.Budget) (*Regexp, error) {
	return compile(pattern, budget, "", "")
}

// CompileFull reads an expression that must match a whole text.
func CompileFull(pattern string, budget *patterns.Budget) (*Regexp, error) {
	return compile(pattern, budget, `\A(?:`, `)\z`)
}

func compile(pattern string, budget *patterns.Budget, before, after string) (*Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, invalid("the expression is longer than %d bytes", maxPattern)
	}
	translated, err := translate(pattern)
	if err != nil {
		return nil, err
	}
	_, err = syntax.Parse(translated, syntax.Perl)
	var re patterns.Compiled
	if err == nil {
		re, err = budget.Compile(before + translated + after)
	}
	if _, ok := errors.AsType[*patterns.SizeError](err); ok {
		return nil, invalid("the expression %q is too large: %s", pattern, err)
	}
	if err != nil {
		return nil, invalid("the expression %q cannot be read: %s", pattern, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return &Regexp{re.Regexp}, nil
}

// Match reports whether the expression is found in a text.
func (r *Regexp) Match(text string) bool { return r.re.MatchString(text) }

const (
	wordClass  = `\p{L}\p{N}_`
	digitClass = `\p{Nd}`
	spaceClass = `\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`
)

// translate writes an expression as RE2 reads it.
func translate(p string) (string, error) {
	var b strings.Builder
	class := false
	refuse := func(what string) (string, error) {
		return "", invalid("the expression %q uses %s, which is not supported", p, what)
	}
	for i := 0; i < len(p); {
		rest := p[i:]
		c := rest[0]
		switch {
		case c == '\\':
			out, n, what := escape(rest, class)
			if what != "" {
				return refuse(what)
			}
			b.WriteString(out)
			i += n
			continue
		case class:
			switch c {
			case ']':
				class = false
				b.WriteByte(c)
			case '[':
				b.WriteString(`\[`)
			default:
				b.WriteByte(c)
			}
		case c == '[':
			class = true
			b.WriteByte(c)
			if strings.HasPrefix(rest[1:], "^") {
				b.WriteByte('^')
				i++
			}
			if strings.HasPrefix(p[i+1:], "]") { // a bracket in the first place is text
				b.WriteString(`\]`)
				i++
			}
		case strings.HasPrefix(rest, "(?"):
			if what := groupProblem(rest[2:]); what != "" {
				return refuse(what)
			}
			b.WriteByte(c)
		case strings.HasPrefix(rest, "{,"):
			b.WriteString("{0,")
			i += 2
			continue
		default:
			b.WriteByte(c)
		}
		i++
	}
	return b.String(), nil
}

// groupProblem names what RE2 has no group for.
func groupProblem(s string) string {
	for _, g := range []struct{ prefix, what string }{
		{"=", "look-ahead"},
		{"!", "look-ahead"},
		{"<=", "look-behind"},
		{"<!", "look-behind"},
		{"P=", "a back-reference"},
		{"(", "a condition"},
		{">", "an atomic group"},
		{"#", "a comment"},
	} {
		if strings.HasPrefix(s, g.prefix) {
			return g.what
		}
	}
	flags, _, _ := strings.Cut(s, ")")
	flags, _, _ = strings.Cut(flags, ":")
	if !strings.HasPrefix(s, "P<") && strings.ContainsAny(flags, "aLxu") {
		return "the flags a, L, u or x"
	}
	return ""
}

// escape translates the escape at the beginning of s and gives its length.
func escape(s string, class bool) (out string, n int, refused string) {
	if len(s) < 2 {
		return "", 0, "a backslash at the end"
	}
	bracket := func(set string, not bool) (string, int, string) {
		switch {
		case class && not:
			return "", 0, `a negated class inside a class`
		case class:
			return set, 2, ""
		case not:
			return "[^" + set + "]", 2, ""
		}
		return "[" + set + "]", 2, ""
	}
	switch c := s[1]; c {
	case 'w', 'W':
		return bracket(wordClass, c == 'W')
	case 'd', 'D':
		return bracket(digitClass, c == 'D')
	case 's', 'S':
		return bracket(spaceClass, c == 'S')
	case 'Z':
		return `\z`, 2, ""
	case 'b':
		if class {
			return `\x08`, 2, ""
		}
		return `\b`, 2, ""
	case 'A', 'B', 'a', 'f', 'n', 'r', 't', 'v':
		return s[:2], 2, ""
	case 'x', 'u', 'U':
		length := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		if len(s) < 2+length {
			return "", 0, "an escape that breaks off"
		}
		if _, err := strconv.ParseUint(s[2:2+length], 16, 32); err != nil {
			return "", 0, "an escape that breaks off"
		}
		return `\x{` + s[2:2+length] + `}`, 2 + length, ""
	case '0':
		return `\x00`, 2, ""
	default:
		switch {
		case c >= '1' && c <= '9':
			return "", 0, "a back-reference"
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			return "", 0, `the escape \` + string(c)
		case c >= 0x80:
			return "", 1, "" // the character itself follows
		}
		return s[:2], 2, ""
	}
}

// Replacement is what each match of an expression is replaced by: text with groups
// as \1, \g<1> and \g<name>.
type Replacement struct {
	re    *Regexp
	parts []replacePart
}

type replacePart struct {
	text  string
	group int // -1: none
}

// Replacement reads a template. Its error is Invalid.
func (r *Regexp) Replacement(template string) (*Replacement, error) {
	out := &Replacement{re: r}
	text := ""
	group := func(name string) error {
		n, err := strconv.Atoi(name)
		if err != nil {
			n = r.re.SubexpIndex(name)
		}
		if n < 0 || n > r.re.NumSubexp() {
			return invalid("the replacement %q names the group %s, and the expression has none", template, name)
		}
		if text != "" {
			out.parts = append(out.parts, replacePart{text, -1})
			text = ""
		}
		out.parts = append(out.parts, replacePart{"", n})
		return nil
	}
	for s := template; s != ""; {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			text += s
			break
		}
		text += s[:i]
		c := s[i+1]
		s = s[i+2:]
		switch {
		case c == 'g':
			name, rest, ok := strings.Cut(strings.TrimPrefix(s, "<"), ">")
			if !ok || !strings.HasPrefix(s, "<") {
				return nil, invalid(`the replacement %q has a \g without <group>`, template)
			}
			s = rest
			if err := group(name); err != nil {
				return nil, err
			}
		case c >= '1' && c <= '9':
			name := string(c)
			if s != "" && s[0] >= '0' && s[0] <= '9' {
				name, s = name+s[:1], s[1:]
			}
			if err := group(name); err != nil {
				return nil, err
			}
		case strings.IndexByte("abfnrtv", c) >= 0:
			text += map[byte]string{'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v"}[c]
		case c == '0':
			text += "\x00"
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			return nil, invalid(`the replacement %q has the escape \%c, which is not known`, template, c)
		case c == '\\':
			text += `\`
		default:
			text += `\` + string(c)
		}
	}
	if text != "" {
		out.parts = append(out.parts, replacePart{text, -1})
	}
	return out, nil
}

// Append appends text with every match replaced.
func (p *Replacement) Append(dst, text []byte) ([]byte, error) {
	at, start := 0, len(dst)
	found := p.re.re.FindAllSubmatchIndex(text, maxPlaces+1)
	if len(found) > maxPlaces {
		return dst, invalid("the expression is found at more than %d places of one text, the limit", maxPlaces)
	}
	for _, m := range found {
		dst = append(dst, text[at:m[0]]...)
		for _, part := range p.parts {
			if err := checkLength(len(dst) - start); err != nil {
				return dst, err
			}
			if part.group < 0 {
				dst = append(dst, part.text...)
			} else if from := m[2*part.group]; from >= 0 {
				dst = append(dst, text[from:m[2*part.group+1]]...)
			}
		}
		at = m[1]
	}
	return append(dst, text[at:]...), checkLength(len(dst) - start + len(text) - at)
}
