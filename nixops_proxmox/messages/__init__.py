"""What people and programs read: results, errors and plans as lines, table rows and JSON. No I/O, and no door."""
