"""VNC's handshake (RFB 3.8), from both sides: towards a VM's display, and towards a viewer on this computer.

A viewer must give a password of ours, so that no other user of this computer gets in. The password that PVE gave is
used here, and goes nowhere else.
"""

import hmac
import secrets
from typing import Any, Protocol

from nixops_proxmox.errors import NotAuthenticated, PveUnreachable

VERSION = b"RFB 003.008\n"
NO_AUTH, VNC_AUTH = 1, 2
SIGNIFICANT = 8  # characters of a password; the rest is not looked at


class Stream(Protocol):
    """Bytes in both directions. `read` raises EOFError or OSError at the end."""

    def read(self, count: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> None: ...


def log_in(stream: Stream, password: str, what: str) -> None:
    """Prove to the display that we have the password. Afterwards it waits for the viewer's first word."""
    try:
        if not stream.read(len(VERSION)).startswith(b"RFB "):
            raise PveUnreachable(f"{what}: its display does not speak VNC")
        stream.send(VERSION)
        kinds = stream.read(stream.read(1)[0])
        if VNC_AUTH in kinds:
            stream.send(bytes([VNC_AUTH]))
            stream.send(encrypt(password, stream.read(16)))
        elif NO_AUTH in kinds:
            stream.send(bytes([NO_AUTH]))
        else:
            raise PveUnreachable(f"{what}: its display wants a login that is not supported here", hint=SERIAL)
        if int.from_bytes(stream.read(4), "big"):
            raise NotAuthenticated(f"{what}: its display refused the login", hint="run the same command again")
    except (EOFError, OSError) as error:
        raise PveUnreachable(f"{what}: its display closed the connection") from error


SERIAL = "a display `serial0` has no picture: leave out --vnc"


def welcome(stream: Stream, password: str) -> bool:
    """Let a viewer in that has the password."""
    stream.send(VERSION)
    if stream.read(len(VERSION)) not in (b"RFB 003.007\n", VERSION):  # older ones know no choice of logins
        return False
    stream.send(bytes([1, VNC_AUTH]))
    if stream.read(1)[0] != VNC_AUTH:
        return False
    challenge = secrets.token_bytes(16)
    stream.send(challenge)
    if hmac.compare_digest(stream.read(16), encrypt(password, challenge)):
        stream.send(bytes(4))
        return True
    reason = b"Authentication failed"
    stream.send((1).to_bytes(4, "big") + len(reason).to_bytes(4, "big") + reason)
    return False


def encrypt(password: str, challenge: bytes) -> bytes:
    """VNC's answer to a challenge: DES, its key the password with the bits of each byte the other way round."""
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    algorithms: Any
    try:
        from cryptography.hazmat.decrepit.ciphers import algorithms
    except ImportError:  # before version 43
        from cryptography.hazmat.primitives.ciphers import algorithms
    key = bytes(_turned(byte) for byte in password.encode()[:SIGNIFICANT].ljust(SIGNIFICANT, b"\0"))
    encryptor = Cipher(algorithms.TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305 -- VNC knows no other
    return bytes(encryptor.update(challenge))


def _turned(byte: int) -> int:
    return int(f"{byte:08b}"[::-1], 2)
