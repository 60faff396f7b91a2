"""Seeded bugs: is there a test for each promise? See `scripts/seed_bugs`."""
