"""The lab's own certificate authority, and a server certificate signed by it, as a Proxmox node has one."""

import datetime
import hashlib
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 3650


@dataclass(frozen=True)
class Certificate:
    ca_file: Path
    file: Path
    key_file: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256, upper-case hex with colons, as PVE prints it."""
        pem = self.file.read_text()
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END") + 26])).hexdigest().upper()
        return ":".join(digest[index : index + 2] for index in range(0, 64, 2))

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.file, self.key_file)
        return context


def get_certificate(directory: Path, names: tuple[str, ...]) -> Certificate:
    """The one in `directory`, or a new one for these names and addresses."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = Certificate(directory / "pve-root-ca.pem", directory / "pve-ssl.pem", directory / "pve-ssl.key")
    stamp = directory / "names"
    if not (found.key_file.exists() and stamp.exists() and stamp.read_text() == "\n".join(names)):
        _make(found, names)
        stamp.write_text("\n".join(names))
    return found


def _make(where: Certificate, names: tuple[str, ...]) -> None:
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("Proxmox Virtual Environment", "PVE Cluster Manager CA")
    ca = (
        _builder(issuer, issuer, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(_usage(signs=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        _builder(_name(f"{names[0]}.lab.test", "PVE Cluster Node"), issuer, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    where.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    where.file.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    where.key_file.touch(mode=0o600)
    where.key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _name(common: str, unit: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)]
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
