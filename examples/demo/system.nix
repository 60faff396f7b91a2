# The systems of the demo. They come with the lab, because they run in its guests.
import ../../nix/lab/system.nix
