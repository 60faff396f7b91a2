"""The kinds of things, by name."""
