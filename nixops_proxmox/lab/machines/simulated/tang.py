"""The tang of a scripted guest: keys that stay on its disk, and what it advertises."""

import base64
import json
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nixops_proxmox.lab.machines.simulated.scripted import ScriptedGuest

KEYS = "/var/lib/tang/public.json"  # remove it, and the guest makes new keys


def advertise(guest: "ScriptedGuest") -> str:
    """A JWS as tang gives one out. Its keys are no points of the curve, and its signature is zeros."""
    kept = guest.find_file(KEYS)
    if kept is None:
        kept = json.dumps({"keys": [_new_key("verify"), _new_key("deriveKey")]}).encode()
        guest.keep(KEYS, kept)
    return json.dumps({"payload": _text(kept), "protected": _text(b'{"alg":"ES512"}'), "signature": _text(bytes(132))})


def _new_key(use: str) -> dict[str, object]:
    alg = "ES512" if use == "verify" else "ECMR"
    point = {name: _text(secrets.token_bytes(66)) for name in ("x", "y")}
    return {"alg": alg, "crv": "P-521", "key_ops": [use], "kty": "EC", **point}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
