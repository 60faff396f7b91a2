# What the demo is built by. It comes with the lab.
import ../../nix/lab/builder.nix
