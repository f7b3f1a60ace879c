// Package cli is the command line: it wires the other packages into commands.
//
// A command sees the world only through [Env], so that a test can run it whole;
// it answers with one of four exit codes (0 done, 1 the data or the flow failed,
// 2 wrong usage, configuration or spec, 3 server unreachable or refused).
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/spf13/cobra"
)

// Env is what a command sees of the world.
type Env struct {
	Args   []string // without the program's name
	Getenv func(string) string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Now    func() time.Time
	Dir    string // the working folder
	// Terminal says that Stdout is a terminal.
	Terminal bool
	// LimitMemory sets what the garbage collector aims to keep the process under, in
	// bytes; nil leaves it as it is.
	LimitMemory func(bytes int64)

	text io.Writer // standard output for people; data go to Stdout as they are
}

// path makes a path given by the user absolute.
func (e *Env) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(e.Dir, p)
}

// The exit codes of every command.
const (
	exitData        = 1   // the data or the flow failed
	exitUsage       = 2   // wrong usage, configuration or spec
	exitServer      = 3   // the server cannot be reached, or refused
	exitInterrupted = 130 // stopped by Ctrl-C, as shells have it
)

// exitError carries the exit code that an error leads to. Its err may be nil
// where everything was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exit makes an error that ends the program with a code.
func exit(code int, err error) error { return &exitError{code, err} }

// kindCodes turns a failure's kind into an exit code where a command did not
// choose one itself.
var kindCodes = map[errs.Kind]int{
	errs.Internal:     exitData,
	errs.Invalid:      exitUsage,
	errs.TooLarge:     exitUsage,
	errs.NotFound:     exitUsage,
	errs.Conflict:     exitUsage,
	errs.Unauthorized: exitServer,
	errs.Forbidden:    exitServer,
	errs.Unavailable:  exitServer,
}

// Run runs the command that env.Args names and gives its exit code.
func Run(ctx context.Context, env Env) int {
	env.Stderr, env.text = &plainText{w: env.Stderr}, &plainText{w: env.Stdout}
	root := rootCommand(&env)
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		if e.err != nil {
			fmt.Fprintf(env.Stderr, "specstore: %s\n", message(e.err))
		}
		return e.code
	}
	if ctx.Err() != nil {
		fmt.Fprintln(env.Stderr, "specstore: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(env.Stderr, "specstore: %s\n", message(err))
	if e, ok := errors.AsType[*errs.Error](err); ok {
		return kindCodes[e.Kind]
	}
	return exitUsage // cobra's own errors: unknown command, flag or argument
}

// message is what the user at the terminal reads: the safe detail, and on their
// own machine the cause as well.
func message(err error) string {
	if e, ok := errors.AsType[*errs.Error](err); ok && e.Detail != "" {
		if e.Err != nil && e.Kind == errs.Internal {
			return e.Detail + ": " + e.Err.Error()
		}
		return e.Detail
	}
	return err.Error()
}

// oneArg asks for exactly one argument, and shows how the command is used when
// it gets another number.
func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return exit(exitUsage, fmt.Errorf("%s takes one argument, not %d\nusage: %s", cmd.Name(), len(args), cmd.UseLine()))
}

func rootCommand(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:           "specstore",
		Short:         "Receives datasets, runs their pipelines and publishes them",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	root.AddCommand(
		runCommand(env),
		stepCommand(env),
		planCommand(env),
		validateCommand(env),
		inferCommand(env),
		catCommand(env),
		serveCommand(env),
		workerCommand(env),
		migrateCommand(env),
		pushCommand(env),
		statusCommand(env),
		logsCommand(env),
		cancelCommand(env),
		retryCommand(env),
		rmCommand(env),
		restoreCommand(env),
		tokenCommand(env),
		versionCommand(env),
		childCommand(env),
	)
	return root
}
