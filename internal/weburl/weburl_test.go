package weburl

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                         "",
		"plain text, who? @me #1":                  "plain text, who? @me #1",
		"https://host/path/t.csv":                  "https://host/path/t.csv",
		"https://host/t.csv?sig=s":                 "https://host/t.csv",
		"https://host?sig=s":                       "https://host",
		"https://u:p@host/t.csv#f":                 "https://host/t.csv",
		"https://u@host":                           "https://host",
		"https://host/npm/x@1.2/t.csv":             "https://host/npm/x@1.2/t.csv",
		"https://host/npm/x@1.2/t.csv?a@b":         "https://host/npm/x@1.2/t.csv",
		"see https://u:p@host/a?b=c, and x":        "see https://host/a and x",
		`Get "https://u:p@host/a?b=c": refused`:    `Get "https://host/a": refused`,
		"a https://h/a?b=c\nb s3://k:s@b/c?d <e>":  "a https://h/a\nb s3://b/c <e>",
		"postgresql+psycopg2://u:p/w@host/db?x=1":  "postgresql+psycopg2://host/db",
		"https://h/a?next=https://u:p@other/x?y=z": "https://h/a",
		"https://[::1/a?b=c":                       "https://[::1/a",
		"(https://h/?q) https://h2/x":              "(https://h/ https://h2/x",
		"https://u:p%zz@h/a":                       "https://h/a",
		"é://u:p@h and ☃ https://u:p@h/☃?x":        "é://h and ☃ https://h/☃",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		for _, secret := range []string{"u:p", "sig=", "secret", "?x", "b=c"} {
			if strings.Contains(Redact(in), secret) {
				t.Errorf("%q shows %q", in, secret)
			}
		}
	}
}

func TestSetting(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"ftp://host/a":                 "ftp://host/a",
		"example.org":                  "example.org",
		"data/x":                       "data/x",
		"https://u:hunter2@h":          "https://h",
		"https://u:hunter2@h/a?b#c":    "https://h/a",
		"https://h/?k=hunter2":         "https://h/",
		"https://u:hun/ter2@h":         NotShown,
		"https://u:1/hunter2@h":        NotShown,
		"https://u:hun?ter2@h":         NotShown,
		"https://u:hun ter2@h":         NotShown,
		"https://u:12?hunter2@h":       NotShown,
		"https://u:12#hunter2@h":       NotShown,
		"u:hunter2@h":                  NotShown,
		"hunter2@h":                    NotShown,
		"https:/u:hunter2@h":           NotShown,
		"https:u:hunter2@h":            NotShown,
		"//u:hunter2@h":                NotShown,
		"https://u:hunter2%zz@h":       NotShown,
		"https://u:hunter2@[::1":       NotShown,
		"\x1b[31mhttps://u:hunter2@h":  NotShown,
		"postgres://u:hunter2@h:x/db":  NotShown,
		"postgres://u:hunter2@h:1/db?": "postgres://h:1/db",
	} {
		if got := Setting(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"http://127.0.0.1:8000": true, "http://localhost": true, "https://[::1]:1/a": true, "http://LOCALHOST:1": true, "http://127.9.9.9": true, "http://[::ffff:127.0.0.1]:1": true,
		"http://localhost.evil.example": false, "http://127.0.0.1.evil.example": false, "http://10.0.0.1": false, "http://evil.example": false,
		"http://127.0.0.1@evil.example": false, "ftp://127.0.0.1": false, "127.0.0.1:8000": false, "": false, "http://": false, "http://0.0.0.0": false,
	} {
		if got := Loopback(in); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("a https://u:p@h/x?y#z b")
	f.Fuzz(func(t *testing.T, text string) {
		once := Redact(text)
		if again := Redact(once); len(once) > len(text) || len(again) > len(once) {
			t.Errorf("%q: %q, %q", text, once, again)
		}
		_ = Setting(text)
	})
}
