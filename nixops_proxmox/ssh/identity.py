"""Which private keys are offered: our own, files, and the SSH agent's."""

import io
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.errors import SshRefused
from nixops_proxmox.paths import expanded
from nixops_proxmox.ssh.argv import Hop
from nixops_proxmox.ssh.known_hosts import KEY_TYPES

if TYPE_CHECKING:  # it takes a while: a run that connects to nothing does without
    import paramiko


@dataclass(frozen=True)
class LoginKeys:
    """Which keys to offer: private keys as text (OpenSSH's PEM), files, the SSH agent's, in this order. A file's key
    that the agent has comes from there. `only_files`: no other of the agent's keys."""

    keys: tuple[str, ...] = field(default=(), repr=False)
    files: tuple[Path, ...] = ()
    agent: bool = False
    only_files: bool = False


@dataclass(frozen=True)
class Offer:
    """A key with its name. None for one with a passphrase, which is passed over where there is an agent."""

    name: str
    key: "paramiko.PKey | None"


def identity_for(hop: Hop) -> LoginKeys:
    """The user's, as ssh would offer it."""
    if hop.identities:
        return LoginKeys(files=hop.identities, agent=True, only_files=hop.only_identities)
    files = (expanded(Path("~/.ssh", name)) for name in ("id_rsa", "id_ecdsa", "id_ed25519"))  # as ssh does
    return LoginKeys(files=tuple(file for file in files if file.exists()), agent=True, only_files=hop.only_identities)


def keys_of(identity: LoginKeys) -> Generator[Offer, None, None]:
    """The agent is left when the generator is closed."""
    import paramiko

    for index, text in enumerate(identity.keys):
        name = f"our key {index + 1}" if len(identity.keys) > 1 else "our key"
        yield Offer(name, _parse_key(text.encode(), "our key"))
    agent = paramiko.Agent() if identity.agent else None
    try:
        yield from _of_files_and_agent(identity, agent)
    finally:
        if agent is not None:
            agent.close()


def _of_files_and_agent(identity: LoginKeys, agent: "paramiko.Agent | None") -> Iterator[Offer]:
    held = {key.get_base64(): key for key in agent.get_keys()} if agent is not None else {}
    for path in map(expanded, identity.files):
        mine = held.pop(_public_of(path), None)
        if mine is not None:
            yield Offer(f"{path} from the SSH agent", mine)
        elif not _is_public(path):
            yield _key_in(path, quiet=identity.agent)
    if not identity.only_files:
        yield from (Offer(f"{key.get_name()} from the SSH agent", key) for key in held.values())


def _key_in(path: Path, *, quiet: bool) -> Offer:
    try:
        return Offer(str(path), _parse_key(_read(path), str(path)))
    except _Locked:
        if not quiet:
            raise
        return Offer(f"{path} (it has a passphrase)", None)


class _Locked(SshRefused):
    """A key with a passphrase."""


def _public_of(path: Path) -> str:
    """The public half beside a private key, or the file itself, in base64. Empty: there is none."""
    for file in (path.with_name(f"{path.name}.pub"), path):
        try:
            words = file.read_text(errors="replace").split(maxsplit=2)
        except OSError:
            continue
        if len(words) > 1 and words[0] in KEY_TYPES:
            return words[1]
    return ""


def _is_public(path: Path) -> bool:
    try:
        return path.read_text(errors="replace").split(maxsplit=1)[:1] in ([kind] for kind in KEY_TYPES)
    except OSError:
        return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SshRefused(f"the key {path} cannot be read: {error.strerror}") from error


def _parse_key(data: bytes, name: str) -> "paramiko.PKey":
    import paramiko

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(data.decode()))
        except paramiko.PasswordRequiredException as error:
            raise _Locked(f"{name} has a passphrase", hint="add it to the SSH agent (ssh-add)") from error
        except (paramiko.SSHException, ValueError, IndexError):  # another type of key
            continue
    raise SshRefused(f"{name} is not a private key that can be used")
