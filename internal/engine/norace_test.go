//go:build !race

package engine_test

// underRace says that the race detector is on, which allocates for itself.
const underRace = false
