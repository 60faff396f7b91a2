"""`deployment.files`: what the installer puts onto the disk, before the system boots for the first time."""

from typing import Annotated

from pydantic import AfterValidator, Field

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.sent_key import Mode
from nixops_proxmox.spec.tree import Mistakes

NOT_ON_DISK = ("/dev", "/nix/store", "/proc", "/run", "/sys", "/tmp")  # noqa: S108  # they are refused
OURS = ("/etc/nixops-proxmox", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub")


def _path(text: str) -> str:
    parts = text.split("/")
    if not text.startswith("/") or set(parts[1:]) & {"", ".", ".."} or not text.isprintable() or len(text) > 1000:
        raise ValueError("expected the absolute path of a file")
    for place in NOT_ON_DISK:
        if f"{text}/".startswith(f"{place}/"):
            raise ValueError(f"{place} is no place for a file that the system is to have when it boots")
    for place in OURS:
        if f"{text}/".startswith(f"{place}/"):
            raise ValueError("is written by this tool")
    return text


class PlacedFile(Frozen):
    """One of `text`, `file` and `command` says what is in it. `name`: its path. Owners are numbers, because the users
    are there only when the system has booted."""

    name: Annotated[str, AfterValidator(_path)]
    text: Annotated[str | None, Field(repr=False, exclude=True)] = None
    file: v.SecretFile | None = None
    command: Annotated[tuple[str, ...], v.NotEmpty] | None = None
    uid: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    gid: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    permissions: Mode = "0600"


def check_placed_file(file: PlacedFile, path: str, mistakes: Mistakes) -> None:
    said = [file.text is not None, file.file is not None, file.command is not None]
    if sum(said) != 1:
        mistakes.add(path, "expected one of text, file and command")
