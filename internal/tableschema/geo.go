package tableschema

import (
	"bytes"
	"encoding/json"
)

func prepareGeopoint(c *Caster) error {
	format := c.format()
	switch format {
	case "default", "array", "object":
	default:
		return fault("/format", "a geopoint has the format default, array or object")
	}
	c.read = func(cell []byte) ([]byte, bool) {
		if format == "default" {
			_, _, ok := splitGeopoint(cell)
			return cell, ok
		}
		out, ok := readGeopoint(c.scratch, cell, format)
		if ok {
			c.scratch = out
		}
		return out, ok
	}
	return nil
}

// splitGeopoint reads `lon, lat` in degrees.
func splitGeopoint(b []byte) (lon, lat []byte, ok bool) {
	lon, lat, ok = bytes.Cut(b, []byte(","))
	lon, lat = trimASCII(lon), trimASCII(lat)
	return lon, lat, ok && within(lon, "180") && within(lat, "90")
}

func within(b []byte, limit string) bool {
	if !isNumber(b) || isSpecial(b) {
		return false
	}
	d := parseDecimal(nil, b)
	d.neg = false
	return d.compare(parseDecimal(nil, []byte(limit))) <= 0
}

// readGeopoint turns [lon, lat] or {"lon": …, "lat": …} into the default form.
func readGeopoint(scratch, b []byte, format string) ([]byte, bool) {
	v, err := decode(b)
	if err != nil {
		return nil, false
	}
	var lon, lat any
	switch v := v.(type) {
	case []any:
		if format != "array" || len(v) != 2 {
			return nil, false
		}
		lon, lat = v[0], v[1]
	case map[string]any:
		if format != "object" || len(v) != 2 {
			return nil, false
		}
		lon, lat = v["lon"], v["lat"]
	}
	x, okX := lon.(json.Number)
	y, okY := lat.(json.Number)
	if !okX || !okY || !within([]byte(x), "180") || !within([]byte(y), "90") {
		return nil, false
	}
	scratch = append(append(scratch[:0], x...), ", "...)
	return append(scratch, y...), true
}

func prepareGeoJSON(c *Caster) error {
	valid := isGeoJSON
	switch c.format() {
	case "default":
	case "topojson":
		c.what, valid = "TopoJSON", isTopoJSON
	default:
		return fault("/format", "geojson has the format default or topojson")
	}
	c.read = func(cell []byte) ([]byte, bool) {
		text := bytes.Trim(cell, " \t\r\n")
		if len(text) == 0 || text[0] != '{' {
			return nil, false
		}
		v, err := decode(text)
		return text, err == nil && valid(v)
	}
	return nil
}

// isGeoJSON checks the structure that RFC 7946 asks for. Coordinates are pairs of
// numbers; their range is not looked at.
func isGeoJSON(v any) bool {
	o, ok := v.(map[string]any)
	if !ok {
		return false
	}
	switch o["type"] {
	case "Feature":
		geometry, hasGeometry := o["geometry"]
		properties, hasProperties := o["properties"]
		_, isObject := properties.(map[string]any)
		return hasGeometry && hasProperties && (isObject || properties == nil) && (geometry == nil || isGeometry(geometry))
	case "FeatureCollection":
		return every(o["features"], 0, func(v any) bool {
			f, ok := v.(map[string]any)
			return ok && f["type"] == "Feature" && isGeoJSON(f)
		})
	}
	return isGeometry(o)
}

func isGeometry(v any) bool {
	o, ok := v.(map[string]any)
	if !ok {
		return false
	}
	coordinates := o["coordinates"]
	line := func(v any) bool { return every(v, 2, isPosition) }
	polygon := func(v any) bool { return every(v, 0, isRing) }
	switch o["type"] {
	case "Point":
		return isPosition(coordinates)
	case "MultiPoint":
		return every(coordinates, 0, isPosition)
	case "LineString":
		return line(coordinates)
	case "MultiLineString":
		return every(coordinates, 0, line)
	case "Polygon":
		return polygon(coordinates)
	case "MultiPolygon":
		return every(coordinates, 0, polygon)
	case "GeometryCollection":
		return every(o["geometries"], 0, isGeometry)
	}
	return false
}

// every reports whether v is a list of at least so many items that all hold.
func every(v any, least int, holds func(any) bool) bool {
	list, ok := v.([]any)
	if !ok || len(list) < least {
		return false
	}
	for _, item := range list {
		if !holds(item) {
			return false
		}
	}
	return true
}

func isPosition(v any) bool {
	list, ok := v.([]any)
	return ok && len(list) == 2 && every(v, 2, func(v any) bool { _, ok := v.(json.Number); return ok })
}

// isTopoGeometry: points have coordinates, all else the numbers of arcs of a topology.
func isTopoGeometry(v any) bool {
	o, ok := v.(map[string]any)
	if !ok {
		return false
	}
	kind, ok := o["type"]
	arc := func(v any) bool {
		n, ok := v.(json.Number)
		return ok && isInteger([]byte(n))
	}
	line := func(v any) bool { return every(v, 1, arc) }
	lines := func(v any) bool { return every(v, 0, line) }
	switch kind {
	case nil:
		return ok // a geometry that is null
	case "Point":
		return isPosition(o["coordinates"])
	case "MultiPoint":
		return every(o["coordinates"], 0, isPosition)
	case "LineString":
		return line(o["arcs"])
	case "MultiLineString", "Polygon":
		return lines(o["arcs"])
	case "MultiPolygon":
		return every(o["arcs"], 0, lines)
	case "GeometryCollection":
		return every(o["geometries"], 0, isTopoGeometry)
	}
	return false
}

func isRing(v any) bool { return every(v, 4, isPosition) }

// isTopoJSON: a topology with its objects and arcs, or a geometry of one (TopoJSON 1.0,
// section 2).
func isTopoJSON(v any) bool {
	o, ok := v.(map[string]any)
	if ok && o["type"] != "Topology" {
		return isTopoGeometry(o)
	}
	if !ok {
		return false
	}
	objects, ok := o["objects"].(map[string]any)
	if !ok {
		return false
	}
	for _, v := range objects {
		g, ok := v.(map[string]any)
		if _, typed := g["type"].(string); !ok || !typed {
			return false
		}
	}
	return every(o["arcs"], 0, func(arc any) bool {
		return every(arc, 2, func(v any) bool { return every(v, 2, func(v any) bool { _, ok := v.(json.Number); return ok }) })
	})
}
