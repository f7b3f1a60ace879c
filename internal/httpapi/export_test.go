package httpapi

import (
	"log/slog"
	"net/http"
	"time"
)

// Faulty is a route that panics, as all routes are wrapped.
func Faulty(log *slog.Logger) http.Handler {
	a := &api{Config: Config{Now: time.Now, Log: log}}
	return a.handler(func(http.ResponseWriter, *http.Request) error { panic("secret of the fault") })
}

// Patterns are the routes of the code, such as "GET /source/{owner}".
func Patterns() []string {
	var list []string
	for _, r := range (&api{}).routes() {
		list = append(list, r.pattern)
	}
	return list
}

// Stamp is a time as answers have it.
func Stamp(t time.Time) string {
	var b writer
	b.time(t)
	return string(b)
}

// The limits of watchers.
const (
	MaxWatchers        = maxWatchers
	MaxWatchersAddress = maxWatchersAddress
)

// Watchers is a new count of watchers, which admits them by their addresses.
func Watchers() (enter func(remote string) (leave func(), err error)) { return (&watchers{}).enter }

// StatusOf is the status of a failure.
func StatusOf(err error) int { return statusOf(err) }

// MaxAnswers is how many bytes all long answers may have together.
const MaxAnswers = maxAnswers

// NewWithAnswers is [New], with how many bytes long answers may still have.
func NewWithAnswers(c Config) (h http.Handler, left func() int64) {
	a, h := newAPI(c)
	return h, func() int64 {
		a.answers.mu.Lock()
		defer a.answers.mu.Unlock()
		return a.answers.left
	}
}
