package processor

// dumpToPath keeps the package under a folder.
func dumpToPath(p *Package, parameters map[string]any) error {
	path, err := text(parameters, "out-path")
	if err != nil {
		return err
	}
	if p.Dump == nil {
		p.Dump = &Dump{}
	}
	p.Dump.Path = path
	return nil
}

// dumpToS3 repeats what dump.to_path says and adds the content type. The engine
// has one store of its own, so the bucket plays no part.
func dumpToS3(p *Package, parameters map[string]any) error {
	path, err := text(parameters, "path")
	if err != nil {
		return err
	}
	contentType, _ := parameters["content_type"].(string)
	p.Dump = &Dump{Path: path, ContentType: contentType}
	return nil
}

// dumpToZip asks for an archive of the package as it stands.
func dumpToZip(p *Package, parameters map[string]any) error {
	path, err := text(parameters, "out-file")
	if err != nil {
		return err
	}
	p.Zip = &Zip{Path: path, Descriptor: clone(p.Descriptor), Resources: p.Resources}
	return nil
}

// dumpToSQLite asks for a database of the tables of the package as it stands.
func dumpToSQLite(p *Package, parameters map[string]any) error {
	path, err := text(parameters, "out-file")
	if err != nil {
		return err
	}
	p.Database = &Database{Path: path, Tables: p.Resources}
	return nil
}
