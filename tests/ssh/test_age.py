"""Host keys as recipients of age."""

import pytest
from nacl.bindings import crypto_scalarmult_base, crypto_sign_ed25519_sk_to_curve25519
from nacl.signing import SigningKey

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.ssh.age import age_recipient, bech32
from nixops_proxmox.ssh.keys import load_key_pair, new_key_pair


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [("a", "", "a12uel5l"), ("?", "", "?1ezyfcl"), ("abcdef", "00443214c74254b635cf84653a56d7c675be77df",
     "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw")],
)  # fmt: skip
def test_texts_are_those_of_the_standard(kind: str, data: str, text: str) -> None:
    """The examples of BIP 173."""
    assert bech32(kind, bytes.fromhex(data)) == text


def test_the_recipient_belongs_to_the_private_host_key() -> None:
    pair = new_key_pair("web")
    seed = private_seed(pair.private)
    signing = SigningKey(seed)
    secret = crypto_sign_ed25519_sk_to_curve25519(seed + bytes(signing.verify_key))
    assert age_recipient(pair.public) == bech32("age", crypto_scalarmult_base(secret))


def private_seed(private: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = load_ssh_private_key(private.encode(), None)
    seed: bytes = key.private_bytes_raw()  # type: ignore[union-attr]
    return seed


@pytest.mark.parametrize(
    "public", ["", "ssh-rsa AAAAB3NzaC1yc2EAAAA", "ssh-ed25519 %%%", "ssh-ed25519 AAAA", "ssh-ed25519 " + "/" * 68]
)
def test_other_keys_and_nonsense_are_refused(public: str) -> None:
    with pytest.raises(ConfigError):
        age_recipient(public)
    load_key_pair(new_key_pair().private)
