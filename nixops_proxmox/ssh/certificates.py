"""Host certificates: is what a server shows one that an authority of the user's known_hosts made for this host?"""

import base64
import time

import paramiko
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.hazmat.primitives.serialization.ssh import (
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from nixops_proxmox.ssh.known_hosts import Trusted

SUFFIX = "-cert-v01@openssh.com"


def objection_to(key: paramiko.PKey, names: tuple[str, ...], trusted: Trusted, now: float | None = None) -> str:
    """Why the proven key's certificate is not believed for a host that is called one of `names`; empty: it is."""
    if key.public_blob is None:
        return "it showed no certificate"
    try:
        text = f"{key.public_blob.key_type} {base64.b64encode(key.public_blob.key_blob).decode()}"
        shown = load_ssh_public_identity(text.encode())
        if not isinstance(shown, SSHCertificate):
            return "it showed no certificate"
        shown.verify_cert_signature()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        return f"its certificate is not valid ({str(error) or type(error).__name__})"
    return _objection(
        shown, f"{key.get_name()} {key.get_base64()}", names, trusted, time.time() if now is None else now
    )


def _objection(shown: SSHCertificate, key: str, names: tuple[str, ...], trusted: Trusted, now: float) -> str:
    authority = shown.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    if authority not in trusted.authorities or authority in trusted.revoked:
        return "its certificate is from an authority that known_hosts does not name for it"
    if key in trusted.revoked:
        return "its key is revoked"
    if shown.type is not SSHCertificateType.HOST:
        return "its certificate is one of a user"
    if not shown.valid_after <= now < shown.valid_before:
        return "its certificate is not valid at this time"
    if shown.critical_options:
        return "its certificate has options that are not known"
    principals = {name.decode("utf-8", "replace").lower() for name in shown.valid_principals}
    if principals and not principals & {name.lower() for name in names}:
        return f"its certificate is for {', '.join(sorted(principals))}"
    return ""
