"""A host key as age's recipient: what sops-nix and agenix encrypt secrets to."""

from nixops_proxmox.errors import ConfigError

_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # BIP 173
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def age_recipient(public: str) -> str:
    """`age1…` of an OpenSSH line "ssh-ed25519 AAAA…", as `ssh-to-age` writes it. Raises ConfigError for other keys."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key
    from nacl.bindings import crypto_sign_ed25519_pk_to_curve25519
    from nacl.exceptions import CryptoError

    try:
        key = load_ssh_public_key(public.encode())
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigError("age has no recipients of such keys, only of ssh-ed25519 keys")
        return bech32("age", crypto_sign_ed25519_pk_to_curve25519(key.public_bytes_raw()))
    except (ValueError, UnsupportedAlgorithm, CryptoError) as error:
        raise ConfigError(f"not a public key in OpenSSH's format: {error}") from error


def bech32(kind: str, data: bytes) -> str:
    """BIP 173's text of some bytes. The packages that have it are no longer kept."""
    number = int.from_bytes(data) << (-len(data) * 8 % 5)
    count = -(-len(data) * 8 // 5)
    words = [number >> 5 * place & 31 for place in reversed(range(count))]
    expanded = [*(ord(letter) >> 5 for letter in kind), 0, *(ord(letter) & 31 for letter in kind)]
    check = _polymod([*expanded, *words, *[0] * 6]) ^ 1
    return f"{kind}1" + "".join(_LETTERS[word] for word in [*words, *(check >> 5 * (5 - n) & 31 for n in range(6))])


def _polymod(words: list[int]) -> int:
    total = 1
    for word in words:
        top = total >> 25
        total = (total & 0x1FFFFFF) << 5 ^ word
        for place, part in enumerate(_GENERATOR):
            total ^= part if top >> place & 1 else 0
    return total
