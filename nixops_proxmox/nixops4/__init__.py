"""A resource provider for NixOps 4: JSON lines on standard input and output, logs on standard error."""
