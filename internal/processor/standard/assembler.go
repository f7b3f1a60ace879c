package standard

// assembler gives the assembler's own processors.
func assembler() map[string]func(*parameters) Processor {
	return map[string]func(*parameters) Processor{}
}
