// Command specstore receives datasets, runs their pipelines and publishes them.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
	_ "time/tzdata" // the zones of schedules, where the machine has none

	"github.com/datahq/specstore/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	dir, err := os.Getwd()
	if err != nil {
		os.Stderr.WriteString("specstore: " + err.Error() + "\n")
		os.Exit(2)
	}
	info, err := os.Stdout.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	os.Exit(cli.Run(ctx, cli.Env{
		Args: os.Args[1:], Getenv: os.Getenv, Now: time.Now, Dir: dir, Terminal: terminal,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		LimitMemory: func(bytes int64) { debug.SetMemoryLimit(bytes) },
	}))
}
