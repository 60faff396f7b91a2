"""What it costs: API calls, wall time and the tool's own share of it, memory, and how sure the race is."""
