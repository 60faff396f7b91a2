"""Which address of a guest to use: what kind it is, which to try in which order, and which answers as the machine."""
