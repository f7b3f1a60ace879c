package plan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"github.com/datahq/specstore/internal/errs"
)

// signedSeconds is how long a signed address is good: as long as a flow may wait.
const signedSeconds = 21600

const defaultRegion = "us-east-1"

// presign gives the address of an object of the bucket with a signature in its
// query (AWS Signature Version 4, "Authenticating Requests: Using Query Parameters").
func (s Settings) presign(address string) (string, error) {
	if _, err := url.Parse(address); err != nil {
		return "", errs.Wrap(err, errs.Invalid, "plan.presign", "the address of a source cannot be read")
	}
	// The path is taken as it was written: what is escaped in it is escaped again.
	path := address[strings.Index(address, "://")+3:]
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	_, key, _ := strings.Cut(path, "/")
	if strings.HasPrefix(key, s.Bucket) {
		_, key, _ = strings.Cut(key, "/")
	}
	region := s.Region
	if region == "" {
		region = defaultRegion
	}
	base, objectPath := s.place(region, key)
	date := s.SignTime.UTC().Format("20060102T150405Z")
	scope := date[:8] + "/" + region + "/s3/aws4_request"
	query := []string{
		"X-Amz-Algorithm=AWS4-HMAC-SHA256",
		"X-Amz-Credential=" + escape(s.AccessKey+"/"+scope, false),
		"X-Amz-Date=" + date,
		fmt.Sprintf("X-Amz-Expires=%d", signedSeconds),
		"X-Amz-SignedHeaders=host",
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return "", errs.New(errs.Invalid, "plan.presign", "S3_ENDPOINT_URL must be a URL")
	}
	canonical := strings.Join([]string{
		"GET", objectPath, strings.Join(query, "&"), "host:" + u.Host, "", "host", "UNSIGNED-PAYLOAD",
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	toSign := "AWS4-HMAC-SHA256\n" + date + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	secret := []byte("AWS4" + s.SecretKey)
	for _, part := range []string{date[:8], region, "s3", "aws4_request", toSign} {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(part))
		secret = m.Sum(nil)
	}
	return base + objectPath + "?" + strings.Join(query, "&") + "&X-Amz-Signature=" + hex.EncodeToString(secret), nil
}

// place gives scheme and host, and the path of an object: the bucket is part of the
// host where its name has no dot, else of the path.
func (s Settings) place(region, key string) (base, path string) {
	if s.S3Endpoint != "" {
		return strings.TrimRight(s.S3Endpoint, "/"), "/" + s.Bucket + "/" + escape(key, true)
	}
	host := "s3.amazonaws.com"
	if region != defaultRegion {
		host = "s3." + region + ".amazonaws.com"
	}
	if strings.Contains(s.Bucket, ".") {
		return "https://" + host, "/" + s.Bucket + "/" + escape(key, true)
	}
	return "https://" + s.Bucket + "." + host, "/" + escape(key, true)
}

// escape is the percent-encoding of Signature Version 4: all but unreserved
// characters, and slashes where they part a path.
func escape(s string, path bool) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0, path && c == '/':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
