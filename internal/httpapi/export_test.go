package httpapi

// Patterns are the routes of the code, such as "GET /source/{owner}".
func Patterns() []string {
	var list []string
	for _, r := range (&api{}).routes() {
		list = append(list, r.pattern)
	}
	return list
}
