"""What is the same for every kind of thing. The core knows no kind, and reads and writes nothing."""
