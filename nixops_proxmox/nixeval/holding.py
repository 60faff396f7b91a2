"""Keeps a system in a guest from its garbage collector, from before its first byte arrives until it boots."""

import shlex

from nixops_proxmox.errors import CopyFailed
from nixops_proxmox.nixeval.activate import ScriptShell
from nixops_proxmox.texts import script_marker, tail

# A link to a path that is not there yet is no root, and harms nothing. When the path is there, it is one.
_ROOTS = "/nix/var/nix/gcroots/nixops-proxmox"
_HOLD = """\
roots={roots}
mkdir -p "$roots" && ln -sfn {path} "$roots/{name}"
"""


NEXT, SOURCE = "next", "next-derivation"  # the system that comes next, and what it is built from


def hold_script(path: str, root: str = "", name: str = NEXT) -> str:
    """Only what comes next is held: the profile holds those that were taken into use."""
    return script_marker("hold", path) + _HOLD.format(roots=root + _ROOTS, path=shlex.quote(path), name=name)


def let_go_script(name: str, root: str = "") -> str:
    return f"rm -f {root}{_ROOTS}/{name}\n"


def hold_system(system: str, shell: ScriptShell, *, machine: str, root: str = "", name: str = NEXT) -> None:
    """`root`: where the guest has the file systems of the store. Raises CopyFailed."""
    done = shell.run(hold_script(system, root, name))
    if done.status != 0:
        raise CopyFailed(
            f"{machine}: its garbage collector cannot be kept from {system}: {tail(done.stderr.strip(), 500)}",
            hint="is there room below /nix/var/nix/gcroots in the guest, and may we write there?",
        )
