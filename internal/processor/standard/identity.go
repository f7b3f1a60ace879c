package standard

import (
	"fmt"
	"reflect"
)

// same reports whether two descriptors are one and the same map: names may repeat
// and may change on the way.
func same(a, b map[string]any) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// identity is a key for a descriptor, by what it is and not by what it says.
func identity(r map[string]any) string { return fmt.Sprint(reflect.ValueOf(r).Pointer()) }
