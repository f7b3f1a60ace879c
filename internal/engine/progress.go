package engine

import (
	"maps"
	"sync"
)

// Count is how far a pipeline has come.
type Count struct {
	Rows       int64 `json:"rows"`
	Bytes      int64 `json:"bytes"`       // of the source, read so far
	TotalBytes int64 `json:"total_bytes"` // of the source; -1 where it is not known
}

// Progress holds how far the pipelines of a running flow have come. It may be
// read while the flow runs.
type Progress struct {
	mu     sync.Mutex
	counts map[string]Count
}

// NewProgress makes an empty one.
func NewProgress() *Progress { return &Progress{counts: map[string]Count{}} }

// Snapshot is a copy of the counts by pipeline ID.
func (p *Progress) Snapshot() map[string]Count {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

func (p *Progress) set(nodes []*node, c Count) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range nodes {
		p.counts[n.id] = c
	}
}
