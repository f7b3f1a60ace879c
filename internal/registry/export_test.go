package registry

// AdoptSchedules is what a migration calls.
var AdoptSchedules = adoptSchedules

// Kept is how many files are kept in memory.
func (s *Store) Kept() int {
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	return s.files.count
}
