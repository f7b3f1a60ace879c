package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
)

// ErrLimit is the cause of the end of a run that reached a limit. Its error has the
// limit in words as its detail. Such a run is not to be repeated.
var ErrLimit = errors.New("a limit of the run was reached")

// Limits are those of one run; a zero is the default.
type Limits struct {
	Time   time.Duration // from its start to its end
	Memory int64         // resident bytes of its process
	// Disk is how many bytes its temporary files may take; by default eight times what
	// it has read of its sources, and at least 1 GiB.
	Disk int64
	// Source is how many bytes of one source are read, as it is fetched and as it is
	// unpacked. What is longer fails the pipelines of the source alone.
	Source int64
}

// The defaults of [Limits].
const (
	DefaultTime   = 6 * time.Hour
	DefaultMemory = 1 << 30
	DefaultSource = 64 << 30

	leastDisk   = 1 << 30
	diskPerByte = 8 // of the sources
)

const (
	lookEvery = 50 * time.Millisecond // at the memory
	looksDisk = 5                     // looks at the memory for each at the disk
)

// orDefault fills what is zero, but for Disk, which depends on the run.
func (l Limits) orDefault() Limits {
	l.Time, l.Memory, l.Source = cmp.Or(l.Time, DefaultTime), cmp.Or(l.Memory, DefaultMemory), cmp.Or(l.Source, DefaultSource)
	return l
}

// usage is what is known of a run beside what the system says.
type usage struct {
	sources atomic.Int64 // bytes read
	memory  atomic.Int64 // as the process itself says
}

// watch ends a run that reaches a limit, until ctx ends. pid is its process, temp the
// folder of its temporary files.
func (l Limits) watch(ctx context.Context, pid int, temp string, used *usage, stop context.CancelCauseFunc) {
	l = l.orDefault()
	late := time.NewTimer(l.Time)
	defer late.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	reached := func(format string, args ...any) {
		stop(errs.Wrap(ErrLimit, errs.TooLarge, "runner.watch", "the run was ended: "+format, args...))
	}
	for look := 0; ; look++ {
		select {
		case <-ctx.Done():
			return
		case <-late.C:
			reached("it took longer than %s (SPECSTORE_RUN_TIMEOUT)", period(l.Time))
			return
		case <-tick.C:
		}
		memory, ok := resident(pid)
		if !ok {
			memory = used.memory.Load()
		}
		if memory > l.Memory {
			reached("it used more than %s of memory (SPECSTORE_RUN_MEMORY)", Size(l.Memory))
			return
		}
		if look%looksDisk != 0 {
			continue
		}
		most := cmp.Or(l.Disk, max(leastDisk, diskPerByte*used.sources.Load()))
		if onDisk(pid, temp) > most {
			reached("its temporary files took more than %s (SPECSTORE_RUN_DISK)", Size(most))
			return
		}
	}
}

// graceTime is how long a run in this process has to end after it has reached a limit.
const graceTime = 200 * time.Millisecond

// Here runs f in this process and holds it to the limits: the context that f gets ends
// with an [ErrLimit] as its cause, and where f does not end soon after, Here returns
// that error all the same, while f goes on. So the caller is to end the process then. f
// reads its sources by what it is given for them.
func (l Limits) Here(ctx context.Context, temp string, sources engine.Sources, f func(context.Context, engine.Sources) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	used := &usage{}
	var watching sync.WaitGroup
	watching.Go(func() { l.watch(ctx, os.Getpid(), temp, used, cancel) })
	defer watching.Wait()
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- f(ctx, &counting{sources, &used.sources}) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if !errors.Is(context.Cause(ctx), ErrLimit) {
		return <-ended
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(graceTime):
		return context.Cause(ctx)
	}
}

// onDisk is how many bytes temporary files take: those in the folder and those that
// have no name any more and that the process holds open.
func onDisk(pid int, temp string) (total int64) {
	if temp == "" {
		return 0
	}
	_ = filepath.WalkDir(temp, func(_ string, d fs.DirEntry, err error) error {
		// What cannot be looked at has gone meanwhile.
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total + unlinked(pid, temp)
}

// counting counts the bytes that are read of sources.
type counting struct {
	engine.Sources
	read *atomic.Int64
}

// Open opens a source.
func (c *counting) Open(ctx context.Context, url string) (io.ReadCloser, engine.SourceInfo, error) {
	body, info, err := c.Sources.Open(ctx, url)
	if err != nil {
		return nil, info, err
	}
	return &countingBody{body, c.read}, info, nil
}

type countingBody struct {
	io.ReadCloser
	read *atomic.Int64
}

// Read reads on.
func (c *countingBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.read.Add(int64(n))
	return n, err
}

var units = []string{"bytes", "KiB", "MiB", "GiB", "TiB"}

// Size is a number of bytes in words: "1 GiB".
func Size(n int64) string {
	i := 0
	for ; n >= 1<<10 && n%(1<<10) == 0 && i < len(units)-1; i++ {
		n >>= 10
	}
	return fmt.Sprintf("%d %s", n, units[i])
}

// ParseSize reads a number of bytes: a whole number, with KiB, MiB, GiB or TiB behind it
// or nothing.
func ParseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, " BKMGTi")
	unit := strings.TrimSpace(text[len(digits):])
	shift := 0
	switch unit {
	case "", "B":
	case "KiB", "MiB", "GiB", "TiB":
		shift = 10 * (1 + strings.IndexByte("KMGT", unit[0]))
	default:
		return 0, errs.New(errs.Invalid, "runner.ParseSize", "%q is not a size such as 512MiB or 1GiB", text)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)>>shift {
		return 0, errs.New(errs.Invalid, "runner.ParseSize", "%q is not a size such as 512MiB or 1GiB", text)
	}
	return n << shift, nil
}

// period is a duration without the units that are zero: "6h".
func period(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
