package service_test

import (
	"context"
	"testing"
	"time"
)

// TestEraseRunning: the run of a dataset that is erased ends, and its worker is free for
// others, however the run ends.
func TestEraseRunning(t *testing.T) {
	for _, stops := range []bool{false, true} { // the server, at the same time
		each(t, func(t *testing.T, f *fixture) {
			s := f.source()
			f.upload("a", s.URL+"/t.csv")
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			done := f.running(ctx, s)
			if _, err := f.Erase(t.Context(), f.token, "me/a"); err != nil {
				t.Fatal(err)
			}
			if stops {
				stop()
			}
			f.stops(done, time.Minute)
			f.run() // nothing is left to run
		})
	}
}
