"""Do we believe a jump host? Judges as OpenSSH does by the user's known_hosts (sshconnect.c): what to ask for, in which
order, and what the key or certificate that it shows is worth."""

import base64
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nixops_proxmox.ssh.known_hosts import SUFFIX, Trusted

if TYPE_CHECKING:  # paramiko and cryptography take a while: a run that connects to nothing does without
    import paramiko

    from nixops_proxmox.ssh.certificates import Certificate

# OpenSSH's own order, of those that paramiko can prove.
PLAIN = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
ALGORITHMS = (*(f"{name}{SUFFIX}" for name in PLAIN), *PLAIN)
SIGNATURES = PLAIN


FINGERPRINT = "SHA256:"


def find_named(shown: str, known: Collection[str]) -> str:
    """The one of `known` that names the host key which a server showed: the key itself, or its fingerprint in the place
    of the key ("ssh-ed25519 SHA256:…"). Empty: none does."""
    bare = " ".join(shown.split()[:2])
    names = (bare, f"{bare.partition(' ')[0]} {fingerprint_of(bare)}")
    return next((key for key in known if " ".join(key.split()[:2]) in names), "")


def fingerprint_of(key: str) -> str:
    """As ssh-keygen prints it. Of what is no key, one that nothing has."""
    try:
        blob = base64.b64decode(key.split()[1], validate=True)
    except (IndexError, ValueError):
        return ""
    return FINGERPRINT + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def key_type(algorithm: str) -> str:
    """The type of the plain keys that this algorithm proves."""
    plain = algorithm.removesuffix(SUFFIX)
    return "ssh-rsa" if plain.startswith("rsa-") else plain


@dataclass(frozen=True)
class Authority:
    """What the user's known_hosts say of a host called `name`. `algorithms`, `signatures`: HostKeyAlgorithms and
    CASignatureAlgorithms of the user's configuration."""

    trusted: Trusted
    name: str
    algorithms: Sequence[str] = ALGORITHMS
    signatures: Sequence[str] = SIGNATURES

    def proposal(self) -> tuple[str, ...]:
        """Which algorithms to ask for: the usual order if the best one may prove a known key, else first those that may
        prove any known key."""
        known = {key.split()[0] for key in self.trusted.keys}
        usual = [name for name in self.algorithms if name in ALGORITHMS]
        if usual and key_type(usual[0]) in known:
            return tuple(usual)

        def is_first(name: str) -> bool:
            return key_type(name) in known or (name.endswith(SUFFIX) and bool(self.trusted.authorities))

        return tuple(sorted(usual, key=lambda name: not is_first(name)))

    def objection(self, transport: "paramiko.Transport") -> str:
        """Why the key that was proven is not believed. Empty: it is."""
        from nixops_proxmox.ssh.certificates import read_certificate

        key = transport.get_remote_server_key()
        plain = f"{key.get_name()} {key.get_base64()}"
        try:
            certificate = read_certificate(key)
        except ValueError as error:
            return f"its certificate is not valid ({error})"
        return self._objection(plain, certificate, self.trusted)

    def _objection(self, plain: str, certificate: "Certificate | None", trusted: Trusted) -> str:
        """First by its certificate. If that is no reason to believe it, then by its key."""
        why = "" if certificate is None else self._judge_certificate(plain, certificate, trusted)
        if certificate is not None and not why:
            return ""
        if plain in trusted.revoked or (certificate is not None and certificate.authority in trusted.revoked):
            return "its key is revoked"
        if plain in trusted.keys:
            return ""
        if not trusted.keys and trusted.bare is not None:
            return self._objection(plain, None, trusted.bare)
        return why or "its key is not the known one"

    def _judge_certificate(self, plain: str, certificate: "Certificate", trusted: Trusted) -> str:
        if plain in trusted.revoked or certificate.authority in trusted.revoked:
            return "its key is revoked"
        if certificate.authority in trusted.authorities:
            return certificate.objection(self.name.lower(), self.signatures)
        if trusted.bare is not None:
            return self._objection(plain, certificate, trusted.bare)
        return "its certificate is from an authority that known_hosts does not name for it"
