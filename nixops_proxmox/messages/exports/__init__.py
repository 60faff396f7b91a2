"""The machines in the formats of other tools: pure functions from machines to text and JSON."""
