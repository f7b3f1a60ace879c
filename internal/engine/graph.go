package engine

import (
	"context"
	"runtime"
	"slices"
	"sync"
)

// sourcesAtOnce bounds the sources that are read at the same time: more than there are
// processors, since they wait for networks.
const sourcesAtOnce = 4

// pipelinesAtOnce bounds the pipelines that are made at the same time.
func pipelinesAtOnce() int { return min(max(runtime.GOMAXPROCS(0), 2), 4) }

// job is work that runs beside other work. What comes before it and after it runs on
// the flow's own goroutine, which alone may change states.
type job struct {
	begin func()
	work  func(ctx context.Context) error
	then  func(err error)
}

// lane runs jobs of one kind in their order, so many at once.
type lane struct {
	limit, running int
	queue          []job
}

func (l *lane) add(j job) { l.queue = append(l.queue, j) }

// addFirst adds a job that goes before those that wait.
func (l *lane) addFirst(j job) { l.queue = slices.Insert(l.queue, 0, j) }

// execute runs the flow: what can be reused is, and then the graph is worked off.
func (r *run) execute(ctx context.Context) error {
	r.collect()
	if len(r.Earlier) > 0 {
		for _, s := range r.sources {
			if s.wanted() {
				r.identify(s)
			}
		}
		if err := r.work(ctx); err != nil {
			return err
		}
		r.reuse(ctx)
	}
	r.link(ctx)
	r.wire()
	return r.work(ctx)
}

// wire makes the edges of the graph, and starts with what waits for nothing.
func (r *run) wire() {
	for _, n := range r.nodes {
		n.waits = 1
		for _, d := range n.deps {
			if !n.ended && !d.ended {
				n.waits++
				d.next = append(d.next, n)
			}
		}
	}
	for _, s := range r.sources {
		if !s.wanted() {
			s.waiting = nil
			for _, t := range s.tables {
				t.waiting = nil
			}
			continue
		}
		for _, n := range s.waiting {
			n.waits++
		}
		for _, t := range s.tables {
			t.read = t.wanted()
			for _, o := range t.outputs {
				o.open = !o.node.ended
			}
			for _, n := range t.waiting {
				n.waits++
			}
		}
		r.unread++
		r.read(s)
	}
	for _, n := range r.nodes {
		if n.pkg != nil && n.pkg.Report != nil {
			r.start(n)
		}
	}
	r.settle(r.nodes...)
}

// settle takes one from what pipelines wait for. Those that wait for nothing any more
// are made.
func (r *run) settle(nodes ...*node) {
	for _, n := range nodes {
		if n.waits--; n.waits > 0 || n.ended {
			continue
		}
		var result *Result
		r.making.add(job{
			begin: func() { r.start(n) },
			work: func(ctx context.Context) (err error) {
				result, err = n.make(ctx)
				return err
			},
			then: func(err error) { r.end(n, result, err) },
		})
	}
}

// work works the lanes off. It returns when all has ended that was begun, and is told.
// News are told beside the work, so that those come together that come while others
// are being told.
func (r *run) work(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(nil)
	ended := make(chan func(), r.reading.limit+r.making.limit)
	told := make(chan error, 1)
	telling := false
	for {
		if ctx.Err() == nil {
			for _, l := range []*lane{&r.reading, &r.making} {
				for l.running < l.limit && len(l.queue) > 0 {
					wg.Go(l.next(ctx, ended))
				}
			}
		}
		if r.fault != nil {
			return r.fault
		}
		if !telling && len(r.news) > 0 {
			news := r.news
			r.news, telling = nil, true
			wg.Go(func() { told <- r.tell(ctx, news) })
		}
		if r.reading.running+r.making.running == 0 && !telling {
			return context.Cause(ctx)
		}
		select {
		case then := <-ended:
			then()
		case err := <-told:
			if telling = false; err != nil {
				return err
			}
		}
	}
}

// next takes the first job. It gives its work; what comes after that goes to ended.
func (l *lane) next(ctx context.Context, ended chan<- func()) (work func()) {
	j := l.queue[0]
	l.queue = l.queue[1:]
	l.running++
	j.begin()
	return func() {
		_, err := protect(func() (struct{}, error) { return struct{}{}, j.work(ctx) })
		ended <- func() {
			l.running--
			// What broke off with the context stays open for another attempt.
			if ctx.Err() == nil {
				j.then(err)
			}
		}
	}
}
