package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// smallDisk is a folder on a disk of its own, which only root may make.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no disk of %s can be mounted here: %v", size, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// uploader uploads specs to a server.
type uploader struct {
	*server
	token string
}

func newUploader(t *testing.T, s *server) *uploader {
	t.Helper()
	code, token, stderr := s.specstore("token", "--owner", "me", "--service", "source", "--max-datasets", "1000")
	if code != 0 {
		t.Fatal(stderr)
	}
	return &uploader{s, strings.TrimSpace(token)}
}

// upload uploads the spec of a table at an address.
func (u *uploader) upload(dataset, address string) (status int, text string) {
	u.t.Helper()
	spec := fmt.Sprintf(`{"meta":{"ownerid":"me","dataset":%q,"findability":"published"},"inputs":[{"kind":"datapackage","parameters":{
		"resource-mapping":{"t.csv":%q},"descriptor":{"resources":[{"name":"t","path":"t.csv","format":"csv"}]}}}]}`, dataset, address)
	r, err := http.NewRequestWithContext(u.t.Context(), http.MethodPost, u.url+"/source/upload", strings.NewReader(spec))
	if err != nil {
		u.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Auth-Token", u.token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		u.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// ended waits for the end of a flow. Until then its status must be answered.
func (u *uploader) ended(flow string) statusJSON {
	u.t.Helper()
	for range 1200 {
		res, err := http.Get(u.url + "/source/" + flow)
		if err != nil {
			u.t.Fatal(err)
		}
		var got statusJSON
		err = json.NewDecoder(res.Body).Decode(&got)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			u.t.Fatalf("the status of %s: %s, %v", flow, res.Status, err)
		}
		if got.State == "SUCCEEDED" || got.State == "FAILED" {
			return got
		}
		time.Sleep(100 * time.Millisecond)
	}
	u.t.Fatalf("%s does not end\n%s", flow, u.log.String())
	return statusJSON{}
}

// A flow whose files fill the disk that the registry is on too ends, with the reason, after
// it has read its source once; the status of all is answered meanwhile, and then others run.
func TestRunFillsDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "40m")
	var reads atomic.Int64
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		if r.URL.Path == "/small.csv" {
			_, _ = io.WriteString(w, "id,name\n1,one\n")
			return
		}
		reads.Add(1)
		rows := bytes.Repeat([]byte("123456789,a name that is somewhat long\n"), 1<<10)
		_, _ = io.WriteString(w, "id,name\n")
		for range 4 << 10 { // 160 MB
			if _, err := w.Write(rows); err != nil {
				return
			}
		}
	}))
	t.Cleanup(source.Close)
	u := newUploader(t, startServer(t, filepath.Join(disk, "data"), "SPECSTORE_FETCH_ALLOW=127.0.0.1"))
	if status, text := u.upload("large", source.URL+"/large.csv"); status != http.StatusOK {
		t.Fatal(status, text)
	}
	got := u.ended("me/large/1")
	if got.State != "FAILED" || !strings.Contains(strings.Join(got.ErrorLog, "\n"), "the disk is full") {
		t.Errorf("%s %q", got.State, got.ErrorLog)
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("the source was read %d times", n)
	}
	if status, text := u.upload("small", source.URL+"/small.csv"); status != http.StatusOK {
		t.Fatal(status, text)
	}
	if got := u.ended("me/small/1"); got.State != "SUCCEEDED" {
		t.Errorf("%s %q", got.State, got.ErrorLog)
	}
}

// While the disk is full what is there is read, uploads are refused with the reason, and
// when there is room again all goes on, what was accepted too.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "24m")
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		_, _ = io.WriteString(w, "id,name\n1,one\n")
	}))
	t.Cleanup(source.Close)
	u := newUploader(t, startServer(t, filepath.Join(disk, "data"), "SPECSTORE_FETCH_ALLOW=127.0.0.1"))
	if status, text := u.upload("first", source.URL); status != http.StatusOK {
		t.Fatal(status, text)
	}
	if got := u.ended("me/first/1"); got.State != "SUCCEEDED" {
		t.Fatalf("%s %q", got.State, got.ErrorLog)
	}
	ballast := filepath.Join(disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	f.Close()
	accepted, refused := []string{}, ""
	for i := 0; refused == "" && i < 500; i++ {
		name := fmt.Sprintf("more%d", i)
		switch status, text := u.upload(name, source.URL); status {
		case http.StatusOK:
			accepted = append(accepted, "me/"+name+"/1")
		case http.StatusServiceUnavailable:
			refused = text
		default:
			t.Fatal(status, text)
		}
	}
	if !strings.Contains(refused, "is full") {
		t.Errorf("after %d uploads one was refused with %q", len(accepted), refused)
	}
	if got := u.status("me/first/1"); got.State != "SUCCEEDED" {
		t.Errorf("the status of what is there: %s", got.State)
	}
	out := t.TempDir()
	download(t, u.status("me/first/1").Links.Package, out)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if status, text := u.upload("after", source.URL); status != http.StatusOK {
		t.Fatal(status, text)
	}
	if got := u.ended("me/after/1"); got.State != "SUCCEEDED" {
		t.Errorf("%s %q", got.State, got.ErrorLog)
	}
	for _, flow := range accepted {
		u.ended(flow)
	}
}
