"""Keeps a system in a guest from its garbage collector, from before its first byte arrives until it boots."""

import shlex

from nixops_proxmox.errors import CopyFailed
from nixops_proxmox.nixeval.activate import ScriptShell
from nixops_proxmox.texts import script_marker, tail

# A link to a path that is not there yet is no root, and harms nothing. When the path is there, it is one.
_HOLD = """\
roots={root}/nix/var/nix/gcroots/nixops-proxmox
mkdir -p "$roots" && ln -sfn {system} "$roots/next"
"""


def hold_script(system: str, root: str = "") -> str:
    """Only the system that comes next is held: the profile holds those that were taken into use."""
    return script_marker("hold", system) + _HOLD.format(root=root, system=shlex.quote(system))


def hold_system(system: str, shell: ScriptShell, *, machine: str, root: str = "") -> None:
    """`root`: where the guest has the file systems of the store. Raises CopyFailed."""
    done = shell.run(hold_script(system, root))
    if done.status != 0:
        raise CopyFailed(
            f"{machine}: its garbage collector cannot be kept from {system}: {tail(done.stderr.strip(), 500)}",
            hint="is there room below /nix/var/nix/gcroots in the guest, and may we write there?",
        )
