"""What is the same for every kind of thing: no kind is known here, and nothing is read or written."""
