package cli_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// bucket is as much of an object store as a pipelines service asks for: objects are put,
// listed, and given an access list. Its addresses have the bucket in their path.
type bucket struct {
	name    string
	mu      sync.Mutex
	objects map[string]object
}

type object struct{ body, kind, acl string }

func startBucket(t *testing.T, name string) (b *bucket, url string) {
	t.Helper()
	b = &bucket{name: name, objects: map[string]object{}}
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	return b, s.URL
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key, ok := strings.CutPrefix(strings.TrimPrefix(r.URL.Path, "/"), b.name)
	key = strings.TrimPrefix(key, "/")
	query := r.URL.Query()
	switch {
	case !ok || !strings.Contains(r.Header.Get("Authorization"), "Credential=key-of-the-test/"):
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodPut && query.Has("acl"):
		o := b.objects[key]
		o.acl = r.Header.Get("x-amz-acl")
		b.objects[key] = o
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		b.objects[key] = object{string(body), r.Header.Get("Content-Type"), r.Header.Get("x-amz-acl")}
		w.Header().Set("ETag", `"x"`)
	case r.Method == http.MethodGet && key == "":
		type content struct{ Key string }
		out := struct {
			XMLName     xml.Name `xml:"ListBucketResult"`
			Name        string
			IsTruncated bool
			Contents    []content
		}{Name: b.name}
		var keys []string
		for k := range b.objects {
			if strings.HasPrefix(k, query.Get("prefix")) {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			out.Contents = append(out.Contents, content{k})
		}
		w.Header().Set("Content-Type", "application/xml")
		fmt.Fprint(w, xml.Header)
		_ = xml.NewEncoder(w).Encode(out)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}
