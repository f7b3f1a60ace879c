package cli_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestNotYet: a setting that nothing reads is refused.
func TestNotYet(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"SPECSTORE_RAWSTORE_URL", "SPECSTORE_PKGSTORE_URL", "SPECSTORE_CDN_URL", "SPECSTORE_METRICS_ADDR", "SPECSTORE_MAX_OWNER_BYTES",
		"SPECSTORE_KEEP_REVISIONS", "DATABASE_READ_URL",
	} {
		cmd := exec.Command("specstore", "serve", "--data", t.TempDir())
		cmd.Env = append(os.Environ(), name+"=s3://user:secret@bucket")
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), name+": this version has no such setting") || strings.Contains(string(out), "secret") {
			t.Errorf("%s: got exit %d, %s; want a refusal", name, cmd.ProcessState.ExitCode(), out)
		}
	}
}
