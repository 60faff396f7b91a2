"""What Nix is asked: evaluate a network, build its systems, copy them to guests, activate them there."""
