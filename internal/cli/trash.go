package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/datahq/specstore/client"
	"github.com/datahq/specstore/internal/errs"
	"github.com/spf13/cobra"
)

func rmCommand(env *Env) *cobra.Command {
	var conn connection
	var eraseNow, yes bool
	cmd := &cobra.Command{
		Use:   "rm OWNER/DATASET",
		Short: "Delete a dataset with all its revisions",
		Long: `Delete a dataset with all its revisions and files. Nobody finds it any more; until its
time in the trash of the server is over, "restore" takes it out again. With --erase-now
it is erased at once, and so is what lies in the trash under its name.

It asks first, unless --yes is given.

Exit codes: 0 it is deleted, 2 nobody said yes, 3 the server did not answer or refused.`,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return conn.manage(cmd, env, args[0], func(ctx context.Context, cl *client.Client, dataset string) error {
				if !yes {
					if err := confirm(env, dataset, eraseNow); err != nil {
						return err
					}
				}
				if !eraseNow {
					if err := cl.Delete(ctx, dataset); err != nil {
						return serverError(err)
					}
					fmt.Fprintf(env.Stdout, "DELETED %s\n", dataset)
					return nil
				}
				done, err := cl.Erase(ctx, dataset)
				if err != nil {
					return serverError(err)
				}
				word := "ERASED"
				if !done {
					word = "ERASING"
				}
				fmt.Fprintf(env.Stdout, "%s %s\n", word, dataset)
				return nil
			})
		},
	}
	conn.flags(cmd)
	cmd.Flags().BoolVar(&eraseNow, "erase-now", false, "erase it, so that it cannot be restored")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirm asks whether a dataset is to be deleted. Nothing but yes is one.
func confirm(env *Env, dataset string, erase bool) error {
	what := "Delete"
	if erase {
		what = "Erase"
	}
	fmt.Fprintf(env.Stderr, "%s %s with all its revisions? [yes/no] ", what, dataset)
	line, err := bufio.NewReader(io.LimitReader(env.Stdin, 100)).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "yes" && answer != "y" {
		return exit(exitUsage, errs.New(errs.Invalid, "cli.confirm", "%s was not deleted: answer yes, or give --yes", dataset))
	}
	return nil
}

func restoreCommand(env *Env) *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:   "restore OWNER/DATASET",
		Short: "Take a deleted dataset out of the trash",
		Long: `Take a deleted dataset out of the trash, as it was. What ran when it was deleted was
cancelled.

Exit codes: 0 it is back, 3 the server did not answer or refused: the dataset does not lie
in the trash, or its name was pushed again.`,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return conn.manage(cmd, env, args[0], func(ctx context.Context, cl *client.Client, dataset string) error {
				if err := cl.Restore(ctx, dataset); err != nil {
					return serverError(err)
				}
				fmt.Fprintf(env.Stdout, "RESTORED %s\n", dataset)
				return nil
			})
		},
	}
	conn.flags(cmd)
	return cmd
}

// manage does something with a dataset of the server's.
func (c *connection) manage(cmd *cobra.Command, env *Env, arg string, do func(ctx context.Context, cl *client.Client, dataset string) error) error {
	if owner, name, ok := strings.Cut(arg, "/"); !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		return exit(exitUsage, errs.New(errs.Invalid, "cli.manage", "%q is not OWNER/DATASET", arg))
	}
	return c.act(cmd, env, arg, func(ctx context.Context, cl *client.Client, dataset, _ string) error { return do(ctx, cl, dataset) })
}
