"""Host certificates: who made what a server shows, for which names and until when."""

import base64
import time
from collections.abc import Collection
from dataclasses import dataclass

import paramiko
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.hazmat.primitives.serialization.ssh import (
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)


@dataclass(frozen=True)
class Certificate:
    """One whose signature is good. `authority`: whose it is, "ssh-ed25519 AAAA…". `signature`: by which algorithm."""

    shown: SSHCertificate
    authority: str
    signature: str

    def objection(self, name: str, signatures: Collection[str], now: float | None = None) -> str:
        """Why it is not good for the host `name` now, though its authority is believed. Empty: it is."""
        moment = time.time() if now is None else now
        if self.signature not in signatures:
            return f"its certificate is signed by {self.signature}"
        if self.shown.type is not SSHCertificateType.HOST:
            return "its certificate is one of a user"
        if not self.shown.valid_after <= moment < self.shown.valid_before:
            return "its certificate is not valid at this time"
        if self.shown.critical_options:
            return "its certificate has options that are not known"
        principals = [principal.decode("utf-8", "replace") for principal in self.shown.valid_principals]
        if principals and name not in principals:
            return f"its certificate is for {', '.join(principals)}"
        return ""


def read_certificate(key: paramiko.PKey) -> Certificate | None:
    """None if a plain key was shown, or one certified by what cannot be verified here. Raises ValueError for a forged
    one."""
    if key.public_blob is None:
        return None
    text = f"{key.public_blob.key_type} {base64.b64encode(key.public_blob.key_blob).decode()}"
    try:
        shown = load_ssh_public_identity(text.encode())
        if not isinstance(shown, SSHCertificate):
            return None
        shown.verify_cert_signature()
        authority = shown.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    except UnsupportedAlgorithm:
        return None
    except InvalidSignature as error:
        raise ValueError("its signature is wrong") from error
    return Certificate(shown, authority, _signature_of(key.public_blob.key_blob, authority))


def _signature_of(blob: bytes, authority: str) -> str:
    """The last field of a certificate is the signature, which begins with its algorithm. Only of RSA keys are there
    several, and their signatures are as long as the key's modulus."""
    kind, data = authority.split()[:2]
    if kind != "ssh-rsa":
        return kind
    fields: list[bytes] = []
    rest = base64.b64decode(data)
    while rest:
        size = int.from_bytes(rest[:4], "big")
        fields, rest = [*fields, rest[4 : 4 + size]], rest[4 + size :]
    modulus = len(fields[2].lstrip(b"\0"))
    known = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")
    start = {name: len(name).to_bytes(4, "big") + name.encode() for name in known}
    found = (name for name in known if blob[-(modulus + 4 + len(start[name])) :].startswith(start[name]))
    return next(found, "an unknown algorithm")
