package cli_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/cli"
	"github.com/datahq/specstore/internal/testkit"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary serve as the command `specstore`, so that tests
// run it as a process of its own, and may kill it.
func TestMain(m *testing.M) {
	testscript.Main(testkit.Runner{M: m}, map[string]func(){"specstore": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		dir, err := os.Getwd()
		if err != nil {
			os.Exit(2)
		}
		os.Exit(cli.Run(ctx, cli.Env{
			Args: os.Args[1:], Getenv: os.Getenv, Now: time.Now, Dir: dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		}))
	}})
}

// TestScripts uses the command line as a user does.
func TestScripts(t *testing.T) {
	t.Parallel()
	examples := filepath.Join(testkit.Root(t), "examples")
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("EXAMPLES", examples)
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exitcode": exitCode,
			"pack":     pack,
			"latin":    latin,
		},
	})
}

// exitCode runs specstore and wants it to exit with a code: exitcode 2 run --nonsense.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE ARGUMENTS…")
	}
	err := ts.Exec("specstore", args[1:]...)
	got := "0"
	if err != nil {
		got = err.Error()
	}
	want := "0"
	if args[0] != "0" {
		want = "exit status " + args[0]
	}
	if got != want {
		ts.Fatalf("specstore %v ended with %q, want %q", args[1:], got, want)
	}
}

// latin writes a table with one letter in windows-1252: latin FILE.
func latin(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("a\ncaf\xe9\n"), 0o600))
}

// pack makes a packed file: pack gz FILE TO, pack zip TO FILE….
func pack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: pack gz FILE TO, pack zip TO FILE…")
	}
	var b bytes.Buffer
	to := args[1]
	if args[0] == "gz" {
		to = args[2]
		w := gzip.NewWriter(&b)
		_, err := w.Write([]byte(ts.ReadFile(args[1])))
		ts.Check(errors.Join(err, w.Close()))
	} else {
		w := zip.NewWriter(&b)
		for _, name := range args[2:] {
			f, err := w.Create(name)
			ts.Check(err)
			_, err = f.Write([]byte(ts.ReadFile(name)))
			ts.Check(err)
		}
		ts.Check(w.Close())
	}
	ts.Check(os.WriteFile(ts.MkAbs(to), b.Bytes(), 0o600))
}
