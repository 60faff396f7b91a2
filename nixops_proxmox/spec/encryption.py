"""Encrypted disks: what opens them when the machine boots, and where the recovery key goes."""

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.tree import Mistakes


def _tang_url(text: str) -> str:
    """What curl is told in the first stage. Its path is the server's own business. Empty: not set."""
    if not text:
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise ValueError("expected the address of a tang server, such as http://192.0.2.5:7500")
    if not re.fullmatch(r"[A-Za-z0-9:/._\[\]~-]+", text):
        raise ValueError("expected an address of letters, digits and :/.-_~")
    return text.rstrip("/")


def _thumbprint(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z0-9_-]{43}", text):
        raise ValueError("expected the SHA-256 thumbprint of a tang server's signing key: 43 letters, digits, - and _")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\n" in text or "\0" in text:
        raise ValueError("expected an absolute path")
    return text


def _age_recipient(text: str) -> str:
    if not re.fullmatch(r"age1[a-z0-9]{58,}|ssh-(ed25519|rsa) [A-Za-z0-9+/=]+( [^\n]*)?", text):
        raise ValueError("expected a public key of age (age1…), or an SSH public key")
    return text


class Tang(Frozen):
    """A tang server. `thumbprint`: of its signing key; only this server is believed. `machine`: another machine of the
    network, of which both are learned."""

    url: Annotated[str, AfterValidator(_tang_url)] | None = None
    thumbprint: Annotated[str, AfterValidator(_thumbprint)] | None = None
    machine: v.DnsName | None = None
    port: v.Port = 7654  # of a machine


# Registers of the TPM (PCRs) that a key may be sealed to, with what others would do.
SECURE_BOOT = 7  # its keys, and who signed what was booted
GUARD = 15  # zeros until our first stage has opened the disk, which extends it: no system asks the TPM after that
PCRS = (SECURE_BOOT, 14, GUARD)
_OTHER_PCRS = {
    **dict.fromkeys((0, 1, 2, 3), "changes with PVE's firmware, and all machines would stop to open their disks"),
    **dict.fromkeys((4, 5, 8, 9), "is another one in the installer, where the key is sealed"),
    **dict.fromkeys((10, 11, 12, 13), "changes with each new system"),
}


def _pcrs(numbers: tuple[int, ...]) -> tuple[int, ...]:
    for number in numbers:
        if number not in PCRS:
            raise ValueError(
                f"{number} {_OTHER_PCRS.get(number, 'is none that a system boots by')}: expected of 7, 14 and 15"
            )
    if GUARD not in numbers:
        raise ValueError(f"expected {GUARD} among them: any system that the VM boots could read the key without it")
    return tuple(sorted(numbers))


class Tpm2(Frozen):
    """The VM's own TPM. `pcrs`: what the boot must have measured for it to give its part."""

    pcrs: Annotated[tuple[int, ...], v.Unique, AfterValidator(_pcrs)] = (SECURE_BOOT, GUARD)


class FirstStageSsh(Frozen):
    """An SSH server in the first stage, by which the tool hands in its key."""

    port: v.Port = 2222


class Unlocking(Frozen):
    """Who opens the disks when the machine boots."""

    tang: tuple[Tang, ...] = ()
    tpm2: Tpm2 | None = None
    tool: bool = False  # `unlock NAME`, with a key of the operator's own store
    ssh: FirstStageSsh | None = None  # the same key, by the first stage's SSH
    typed: bool = False  # somebody types the recovery key

    @property
    def ours(self) -> bool:
        """The operator's own store has a key that opens it."""
        return self.tool or self.ssh is not None

    @property
    def sealed(self) -> bool:
        """It opens by itself: a sealed key lies beside the system, and others hold what unseals it."""
        return self.parts > 0

    @property
    def parts(self) -> int:
        """How many others hold a part of what unseals it."""
        return len(self.tang) + (self.tpm2 is not None)


class Sink(Frozen):
    """Where the recovery key goes. `age`: to whom it is encrypted before that."""

    command: v.Script | None = None  # gets it on its standard input
    folder: Annotated[str, AfterValidator(_absolute), AfterValidator(v.refuse_store_path)] | None = None
    age: tuple[Annotated[str, AfterValidator(_age_recipient)], ...] = ()
    none: bool = False  # there is no recovery key


class Recovery(Frozen):
    """`header`: the sink gets a backup of the header, too."""

    sink: Sink = Sink()
    header: bool = False


class Encryption(Frozen):
    """LUKS2 on the machine's disks. `threshold`: how many of `unlock.tang` and `unlock.tpm2` must give their part."""

    unlock: Unlocking = Unlocking()
    threshold: int = Field(default=1, ge=1, le=255)
    recovery: Recovery = Recovery()


def check_encryption(encryption: Encryption, at: Callable[[str], str], mistakes: Mistakes) -> None:
    unlock, sink = encryption.unlock, encryption.recovery.sink
    if not (unlock.sealed or unlock.ours or unlock.typed) and not mistakes.below(at("unlock")):
        mistakes.add(at("unlock"), "nothing opens the disks: expected tang, tpm2, tool, ssh or typed")
    _check_servers(unlock.tang, f"{at('unlock')}.tang", mistakes)
    if encryption.threshold > max(1, unlock.parts) and not mistakes.below(at("unlock")):
        mistakes.add(at("threshold"), f"expected at most the number of tang servers and the TPM, {unlock.parts}")
    _check_sink(sink, f"{at('recovery')}.sink", mistakes)
    if encryption.recovery.header:
        _check_header(sink, f"{at('recovery')}.header", mistakes)
    if unlock.typed and sink.none:
        mistakes.add(f"{at('unlock')}.typed", "needs a recovery key, and recovery.sink.none says that there is none")


def _check_servers(servers: tuple[Tang, ...], path: str, mistakes: Mistakes) -> None:
    for number, one in enumerate(servers):
        where = f"{path}[{number}]"
        if one.machine is not None and one.thumbprint:
            mistakes.add(f"{where}.thumbprint", f"has no meaning with machine: it is learned of {one.machine}")
        for name in ("url", "thumbprint") if one.machine is None else ():
            if not getattr(one, name) and not mistakes.below(where):
                mistakes.add(f"{where}.{name}", "must be set, or machine")
    known = [one.machine or one.thumbprint for one in servers]
    if len(set(known)) < len(known):
        mistakes.add(path, "two servers have the same thumbprint: they are one")


def _check_header(sink: Sink, path: str, mistakes: Mistakes) -> None:
    if sink.none:
        mistakes.add(path, "needs a sink, and recovery.sink.none says that there is none")
    if sink.command is not None and "KIND" not in sink.command:
        mistakes.add(path, "the sink's command must tell a key from a header by $KIND, or one takes the other's place")


def _check_sink(sink: Sink, path: str, mistakes: Mistakes) -> None:
    chosen = [sink.command is not None, sink.folder is not None, sink.none].count(True)
    if chosen == 0 and not mistakes.below(path):
        mistakes.add(path, "nothing says where the recovery key goes: expected command, folder, or none = true")
    if chosen > 1:
        mistakes.add(path, "expected only one of command, folder and none")
    if sink.age and sink.none:
        mistakes.add(f"{path}.age", "has no meaning with none: there is no recovery key")
