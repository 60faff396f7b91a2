"""`deployment.keys`: secrets that we write into the machine's memory, in the words of NixOps."""

from typing import Annotated

from pydantic import AfterValidator, Field

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.tree import Mistakes

IN_MEMORY = "/run/keys"  # NixOS mounts it as a file system that is never swapped


def _folder(text: str) -> str:
    if not text.startswith("/") or "\0" in text or "\n" in text or "/../" in f"{text}/":
        raise ValueError("expected an absolute path")
    if f"{text}/".startswith("/nix/store/"):
        raise ValueError("a secret must not be in the Nix store, which everybody can read")
    return text.rstrip("/") or "/"


def _mode(text: str) -> str:
    if len(text) not in (3, 4) or set(text) - set("01234567"):
        raise ValueError("expected an octal mode such as 0600")
    return text.rjust(4, "0")


Mode = Annotated[str, AfterValidator(_mode)]


def _name(text: str) -> str:
    if not text or text.startswith(".") or set(text) - v.FILE_NAME or len(text) > 100:
        raise ValueError("expected a file's name: letters, digits and . _ - inside")
    return text


class SentKey(Frozen):
    """One of `text`, `key_file` and `key_command` says what is in it."""

    name: Annotated[str, AfterValidator(_name)]
    text: Annotated[str | None, Field(repr=False, exclude=True)] = None
    key_file: v.SecretFile | None = None
    key_command: Annotated[tuple[str, ...], v.NotEmpty] | None = None
    dest_dir: Annotated[str, AfterValidator(_folder)] = IN_MEMORY
    user: v.UnixUser = "root"
    group: v.UnixUser = "root"
    permissions: Mode = "0600"

    @property
    def path(self) -> str:
        return f"{self.dest_dir}/{self.name}"


def check_sent_key(key: SentKey, path: str, mistakes: Mistakes) -> None:
    said = [key.text is not None, key.key_file is not None, key.key_command is not None]
    if sum(said) != 1:
        mistakes.add(path, "expected one of text, keyFile and keyCommand")
