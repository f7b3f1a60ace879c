//go:build !race

package httpapi_test

// underRace says that the race detector is on, which allocates for itself.
const underRace = false
