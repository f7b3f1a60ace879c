package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/datahq/specstore/client"
	"github.com/spf13/cobra"
)

func retryCommand(env *Env) *cobra.Command {
	var conn connection
	var asJSON, noWait, quiet bool
	cmd := &cobra.Command{
		Use:   "retry OWNER/DATASET[/REVISION]",
		Short: "Try a revision again that failed or was cancelled",
		Long: `Try a revision again that failed or was cancelled, and follow it to its end. What had
succeeded is kept. On one that succeeded there is nothing to do.

Exit codes: 0 it succeeded, 1 it failed, 3 the server did not answer or refused.`,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return conn.act(cmd, env, args[0], func(ctx context.Context, cl *client.Client, dataset, rev string) error {
				if err := cl.Retry(ctx, dataset, rev); err != nil {
					return serverError(err)
				}
				if !noWait {
					return follow(ctx, env, cl, dataset, rev, asJSON, quiet)
				}
				return show(ctx, env, cl, dataset, rev, asJSON)
			})
		},
	}
	conn.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer of the server")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not follow the flow")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the end only")
	return cmd
}

func cancelCommand(env *Env) *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:   "cancel OWNER/DATASET[/REVISION]",
		Short: "End the flow of a revision",
		Long: `End the flow of a revision. What it published so far stays unseen.

Exit codes: 0 it was cancelled, 3 the server did not answer or refused: it had ended.`,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return conn.act(cmd, env, args[0], func(ctx context.Context, cl *client.Client, dataset, rev string) error {
				if err := cl.Cancel(ctx, dataset, rev); err != nil {
					return serverError(err)
				}
				fmt.Fprintf(env.text, "CANCELLED %s/%s\n", dataset, rev)
				return nil
			})
		},
	}
	conn.flags(cmd)
	return cmd
}

func logsCommand(env *Env) *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:   "logs OWNER/DATASET[/REVISION] [PIPELINE]",
		Short: "Print the log of a revision, or of one of its pipelines",
		Long: `Print the log of a revision, or of one of its pipelines, which is named by the last
part of its ID; the package's by the name of the dataset.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return exit(exitUsage, fmt.Errorf("logs takes one or two arguments, not %d\nusage: %s", len(args), cmd.UseLine()))
			}
			return conn.act(cmd, env, args[0], func(ctx context.Context, cl *client.Client, dataset, rev string) error {
				if len(args) == 1 {
					status, err := cl.Status(ctx, dataset, rev)
					if err != nil {
						return serverError(err)
					}
					for _, line := range status.Logs {
						fmt.Fprintln(env.text, line)
					}
					return nil
				}
				log, err := cl.Log(ctx, dataset, rev, args[1])
				if err != nil {
					return serverError(err)
				}
				defer log.Close()
				_, err = io.Copy(env.text, log)
				return err
			})
		},
	}
	conn.flags(cmd)
	return cmd
}

// act does something with a revision of the server's.
func (c *connection) act(cmd *cobra.Command, env *Env, arg string, do func(ctx context.Context, cl *client.Client, dataset, rev string) error) error {
	dataset, rev, err := revisionArg(arg)
	if err != nil {
		return err
	}
	cl, err := c.connect(cmd.Context(), env, cmd)
	if err != nil {
		return err
	}
	return do(cmd.Context(), cl, dataset, rev)
}
