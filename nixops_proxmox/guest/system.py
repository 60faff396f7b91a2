"""What an installed system's agent tells of it, parsed: a guest may say anything."""

import re
from collections.abc import Callable, Mapping

from nixops_proxmox.errors import GuestError
from nixops_proxmox.texts import shown_name

ReadFile = Callable[[str], bytes]  # an agent's

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
MOUNTS = "/proc/mounts"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
_KEY = re.compile(r"(ssh-ed25519 [A-Za-z0-9+/]{40,100}={0,2})(?:[ \t][^\r\n]*)?\s*")
_BOOT = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\s*")


def read_host_key(read_file: ReadFile) -> str:
    """`ssh-ed25519 AAAA…`. Raises GuestError if what is there is no such key."""
    return _read(read_file, HOST_KEY, _KEY, "an Ed25519 host key")


def read_boot_id(read_file: ReadFile) -> str:
    return _read(read_file, BOOT_ID, _BOOT, "a boot's ID")


def tell_system(osinfo: Mapping[str, object], read_file: ReadFile) -> str:
    """The release and the root file system's device: `NixOS 25.05 (Warbler), / on /dev/sda2 (ext4)`. Raises GuestError
    and the agent's errors."""
    named = osinfo.get("pretty-name")
    release = shown_name(named) if isinstance(named, str) and named else "an unnamed system"
    mounts = (line.split() for line in read_file(MOUNTS).decode("utf-8", "replace").splitlines())
    roots = [words for words in mounts if len(words) > 2 and words[1] == "/"]
    if not roots:
        return release
    device, _, kind = roots[-1][:3]
    return f"{release}, / on {shown_name(device)} ({shown_name(kind)})"


def _read(read_file: ReadFile, path: str, form: "re.Pattern[str]", what: str) -> str:
    match = form.fullmatch(read_file(path).decode("ascii", "replace"))
    if match is None:
        raise GuestError(f"the guest's {path} does not hold {what}")
    return match[1]
