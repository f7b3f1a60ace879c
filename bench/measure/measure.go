// Package measure is what the programs that measure have in common: a server to ask, what
// it costs, and where the figures come from.
package measure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a server that is asked.
type Process struct {
	Name string
	URL  string // base address
	Cmd  *exec.Cmd
	In   io.Closer // its standard input, whose end is the server's; nil where a signal is
}

// Host is where it listens, as host:port.
func (p *Process) Host() string {
	u, err := url.Parse(p.URL)
	if err != nil {
		return p.URL
	}
	return u.Host
}

// CPU is the CPU time that the process and its children have taken until now: of those
// that live by the clock that Linux keeps for each process (clock_getcpuclockid(3)), of
// those that have ended in hundredths of a second.
func (p *Process) CPU() (time.Duration, error) {
	total, err := clock(p.Cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	proc := fmt.Sprintf("/proc/%d/", p.Cmd.Process.Pid)
	lists, err := filepath.Glob(proc + "task/*/children")
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread may have ended
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			child, _ := clock(pid) // it may have ended
			total += child
		}
	}
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		return 0, err
	}
	// Behind the name, which is in parentheses, cutime and cstime are fields 16 and 17.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, field := range fields[13:15] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * 10 * time.Millisecond
	}
	return total, nil
}

func clock(pid int) (time.Duration, error) {
	var t unix.Timespec
	const processClock = 2 // CPUCLOCK_SCHED
	if err := unix.ClockGettime(int32(^pid<<3|processClock), &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

// Stop ends the server and waits for it; after 20 seconds it is killed.
func (p *Process) Stop() error {
	if p.In != nil {
		p.In.Close()
	} else if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	kill := time.AfterFunc(20*time.Second, func() { _ = p.Cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.Cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

const startWithin = 30 * time.Second

// Serve starts specstore on a free port of this machine, with its data in dir, and waits
// for its first answer. It is stopped by [Process.Stop] and not by ctx. What it logs is in
// a file of the folder.
func Serve(ctx context.Context, binary, dir string, env []string, args ...string) (*Process, error) {
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	info := filepath.Join(data, "server.json")
	_ = os.Remove(info)
	args = append([]string{"serve", "--addr", "127.0.0.1:0", "--data", data}, args...)
	p := &Process{Name: "specstore", Cmd: exec.CommandContext(context.WithoutCancel(ctx), binary, args...)}
	p.Cmd.Env = append(append(os.Environ(), "SPECSTORE_LOG=text"), env...)
	log, err := os.Create(filepath.Join(dir, "specstore.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.Cmd.Stderr, p.Cmd.Stdout = log, log
	if err := p.Cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(startWithin); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		if p.URL = address(info); p.URL != "" && answers(ctx, p.URL) {
			return p, nil
		}
	}
	return nil, errors.Join(errors.New("specstore does not start"), context.Cause(ctx), p.Stop())
}

// address reads where a server says that it listens; empty where it does not yet.
func address(file string) string {
	var info struct {
		URL string `json:"url"`
	}
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &info) != nil {
		return ""
	}
	return info.URL
}

func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return true
}

// Fsync is the median time in which 4 KiB are durable in a folder.
func Fsync(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	times := make([]time.Duration, 50)
	for i := range times {
		begun := time.Now()
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times[i] = time.Since(begun)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// Machine says what is measured on.
func Machine() string {
	text, _ := os.ReadFile("/proc/cpuinfo") // elsewhere there is none
	model := "unknown"
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d CPUs (%s), %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
