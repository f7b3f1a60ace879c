package registry

// AdoptSchedules is what a migration calls.
var AdoptSchedules = adoptSchedules
