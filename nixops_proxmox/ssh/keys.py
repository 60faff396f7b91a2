"""Ed25519 key pairs: minted, kept in private files, or only in memory."""

import re
import secrets
import shutil
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.secrecy import learn, learn_key
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.ssh.files import create_file, ensure_private_directory, replace_file, start_private_file, sweep

if TYPE_CHECKING:  # it takes a while: a run that needs no key does without
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class KeyPair:
    """`private` in OpenSSH's PEM (never shown), `public` as "ssh-ed25519 AAAA… comment"."""

    public: str
    private: str = field(repr=False)


def new_key_pair(comment: str = "") -> KeyPair:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return _pair(key, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(), comment)


def load_key_pair(private: str, comment: str = "") -> KeyPair:
    """Read a key from OpenSSH's PEM without a passphrase. We keep the text, because to write it again would change it
    (it has a random check number). Raises ConfigError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        key = load_ssh_private_key(private.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"not a private key in OpenSSH's format: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("not an Ed25519 key")
    return _pair(key, private, comment)


def _pair(key: "Ed25519PrivateKey", private: str, comment: str) -> KeyPair:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    learn_key(private)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return KeyPair(f"{public} {comment}".strip(), private)


@contextmanager
def start_identity_file(pair: KeyPair) -> Iterator[Path]:
    """The private key as a 0600 file for programs that want one, gone at the end."""
    with start_private_file("id_ed25519", pair.private) as path:
        yield path


class KeyStore:
    """A deployment's private keys: a 0700 folder with a 0600 file for each. Satisfies `kinds.machine.ports.KeyStore`.

    Two runs that mint the same key at once agree on one of the two.
    """

    def __init__(self, directory: Path, deployment: str, may_act: Callable[[], None] = lambda: None) -> None:
        """`may_act` is asked before a key is replaced or removed."""
        self._directory = directory
        self._may_act = may_act
        self._deployment = deployment
        self._parsed: dict[Path, tuple[str, KeyPair]] = {}
        for folder in (
            self.client_key_file.parent,
            directory / "host",
            directory / "next-host",
            directory / "first-stage",
        ):
            sweep(folder, ".")

    @property
    def client_key_file(self) -> Path:
        """The key's file, for programs that want one. It exists after the first call of `client_key`."""
        return self._directory / "client" / "id_ed25519"

    def client_key(self) -> KeyPair:
        """The key by which this deployment logs in. Every login asks for it, so it is parsed once for what is there."""
        return self._ensure(self.client_key_file, f"nixops-proxmox-{_word(self._deployment)}")

    def host_key(self, uuid: str) -> tuple[str, str]:
        """(private in OpenSSH format, public) of the machine. Made at the first call."""
        pair = self._ensure(self._host_key_file(uuid), "")
        return pair.private, pair.public

    def first_stage_key(self, uuid: str) -> tuple[str, str]:
        """The same for the SSH server of its first stage, whose key lies where nothing is encrypted."""
        pair = self._ensure(self._first_stage_file(uuid), "")
        return pair.private, pair.public

    def _first_stage_file(self, uuid: str) -> Path:
        return self._directory / "first-stage" / _checked_uuid(uuid)

    def has_host_key(self, uuid: str) -> bool:
        return self._host_key_file(uuid).exists()

    def keep_host_key(self, uuid: str, private: str) -> None:
        """Take over a private key that was read from the guest itself, in place of any other. Ed25519 only."""
        load_key_pair(private)
        path = self._host_key_file(uuid)
        self._ensure_directory(path.parent)
        self._may_act()
        replace_file(path, private)

    def next_host_key(self, uuid: str) -> tuple[str, str]:
        """The same, of the one that it gets in the place of its own. Made at the first call."""
        pair = self._ensure(self._next_host_key_file(uuid), "")
        return pair.private, pair.public

    def forget_next_host_key(self, uuid: str) -> None:
        self._may_act()
        self._next_host_key_file(uuid).unlink(missing_ok=True)

    def _next_host_key_file(self, uuid: str) -> Path:
        return self._directory / "next-host" / _checked_uuid(uuid)

    def forget(self, uuid: str) -> None:
        """Remove the machine's private keys, if there are any, and the keys of its disks."""
        path = self._host_key_file(uuid)
        self._may_act()
        path.unlink(missing_ok=True)
        self._next_host_key_file(uuid).unlink(missing_ok=True)
        self._first_stage_file(uuid).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(self._disk_keys(uuid))

    def disk_key(self, uuid: str, volume: str, use: str) -> str:
        """A key of an encrypted volume (its LUKS UUID) of the machine. Made at the first call."""
        path = self._disk_key_file(uuid, volume, use)
        if not path.exists():
            create_file(path, new_disk_key())
        key = path.read_text()
        learn(key)
        return key

    def signing_key(self) -> tuple[Path, str]:
        """What goes to binary caches is signed with it: its file, as Nix reads it, and NAME:BASE64 of its public half.
        Made at the first call."""
        path = self._directory / "cache" / "signing-key"
        self._ensure_directory(path.parent)
        if not path.exists():
            create_file(path, new_signing_key(f"nixops-proxmox-{_word(self._deployment)}-1"))
        name, _, secret = path.read_text().strip().partition(":")
        learn(secret)
        try:
            _, public = struct.unpack("32s32s", b64decode(secret, validate=True))
            return path, f"{name}:{b64encode(public).decode()}"
        except (ValueError, struct.error) as error:
            raise ConfigError(f"{path}: not a signing key of Nix's", hint="restore the file from a backup") from error

    def find_disk_key(self, uuid: str, volume: str, use: str) -> str | None:
        is_there = (self._disk_keys(uuid) / _disk_key_name(volume, use)).exists()
        return self.disk_key(uuid, volume, use) if is_there else None

    def keep_disk_key(self, uuid: str, volume: str, use: str, key: str) -> None:
        """Put it into the place of the key with that use."""
        self._may_act()
        replace_file(self._disk_key_file(uuid, volume, use), key)

    def _disk_key_file(self, uuid: str, volume: str, use: str) -> Path:
        path = self._disk_keys(uuid) / _disk_key_name(volume, use)
        self._ensure_directory(path.parent.parent)
        ensure_private_directory(path.parent)
        return path

    def forget_disk_keys(self, uuid: str, kept: Collection[tuple[str, str]]) -> None:
        """Remove the keys of the machine's volumes, but the `kept`: by volume and use."""
        self._may_act()
        stay = {_disk_key_name(volume, use) for volume, use in kept}
        folder = self._disk_keys(uuid)
        for path in list(folder.iterdir()) if folder.exists() else []:
            if path.name not in stay:
                path.unlink(missing_ok=True)

    def _disk_keys(self, uuid: str) -> Path:
        return self._directory / "disks" / _checked_uuid(uuid)

    def authorized_keys(self, spec: MachineSpec) -> Sequence[str]:
        """Who may log in: the deployment's own client key and those of the description, each once."""
        keys = (self.client_key().public, *(key.strip() for key in spec.ssh.authorized_keys))
        return tuple(dict.fromkeys(key for key in keys if key))

    def _host_key_file(self, uuid: str) -> Path:
        return self._directory / "host" / _checked_uuid(uuid)

    def _ensure(self, path: Path, comment: str) -> KeyPair:
        self._ensure_directory(path.parent)
        if not path.exists():
            create_file(path, new_key_pair(comment).private)
        private = path.read_text()
        before, pair = self._parsed.get(path, ("", None))
        if pair is None or before != private:
            try:
                pair = load_key_pair(private, comment)
            except ConfigError as error:
                raise ConfigError(f"{path}: {error.message}", hint="restore the file from a backup") from error
            self._parsed[path] = (private, pair)
        return pair

    def _ensure_directory(self, directory: Path) -> None:
        ensure_private_directory(self._directory)
        ensure_private_directory(directory)


def new_disk_key() -> str:
    """256 random bits in letters that are at the same place on every keyboard, as systemd writes its recovery keys."""
    letters = "".join(_MODHEX[byte >> 4] + _MODHEX[byte & 15] for byte in secrets.token_bytes(32))
    return "-".join(letters[start : start + 8] for start in range(0, len(letters), 8))


def new_signing_key(name: str) -> str:
    """As `nix-store --generate-binary-cache-key` writes it: NAME, a colon, and seed and public key in base64."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return f"{name}:{b64encode(seed + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()}"


_MODHEX = "cbdefghijklnrtuv"


def _disk_key_name(volume: str, use: str) -> str:
    return f"{_checked_uuid(volume)}.{_word(use)}"


def _checked_uuid(uuid: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z-]*", uuid):
        raise ConfigError(f"not a machine's UUID: {uuid!r}")
    return uuid.lower()


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
