package processor

import "maps"

// addMetadata merges its parameters into the descriptor.
func addMetadata(p *Package, parameters map[string]any) error {
	maps.Copy(p.Descriptor, clone(parameters))
	return nil
}

// updateMetadata sets the package's ID and replaces `datahub` by the rest.
func updateMetadata(p *Package, parameters map[string]any) error {
	if _, err := text(parameters, "id"); err != nil {
		return err
	}
	p.Descriptor["id"] = parameters["id"]
	p.Descriptor["datahub"] = without(parameters, "id")
	return nil
}

// extractReadme makes the descriptor's readme a file of the package.
func extractReadme(p *Package, _ map[string]any) error {
	readme, ok := p.Descriptor["readme"]
	if !ok {
		return nil
	}
	delete(p.Descriptor, "readme")
	if readme == nil {
		return nil
	}
	content, ok := readme.(string)
	if !ok {
		return invalid("the descriptor's readme must be a text")
	}
	p.Resources = append(p.Resources, &Resource{
		Name:       "readme",
		Descriptor: map[string]any{"name": "readme", "format": "md", "path": "README.md"},
		Text:       []byte(content),
	})
	return nil
}
