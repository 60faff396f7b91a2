"""Machines of the same network that serve tang: where they answer, and by which keys they are known. Pure."""

import base64
import binascii
import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nixops_proxmox.model import Address, Facts, Family, Machine
from nixops_proxmox.spec import Encryption, MachineSpec, Tang
from nixops_proxmox.texts import script_marker

KNOWN = "tang "  # in `Facts.luks`, before a machine's name: its address as tang, and the thumbprint of its key
_SIGNS = "verify"  # what a key of tang's that signs is for, in its advertisement


def keepers_of(encryption: Encryption | None) -> tuple[Tang, ...]:
    """The tang servers that are machines of the network."""
    return () if encryption is None else tuple(one for one in encryption.unlock.tang if one.machine is not None)


def resolved(encryption: Encryption, luks: Mapping[str, str]) -> Encryption:
    """With what the record knows of machines that serve tang."""

    def known(one: Tang) -> Tang:
        url, _, thumbprint = luks.get(f"{KNOWN}{one.machine}", "").partition(" ")
        return one if one.machine is None else one.model_copy(update={"url": url, "thumbprint": thumbprint})

    unlock = encryption.unlock.model_copy(update={"tang": tuple(known(one) for one in encryption.unlock.tang)})
    return encryption.model_copy(update={"unlock": unlock})


def advertisement_script(url: str) -> str:
    """Asks the server that runs in this guest, at its own address."""
    return f"""{script_marker("tang-adv", url)}\
curl --fail --silent --show-error --noproxy '*' --max-time 20 {shlex.quote(f"{url}/adv")}
"""


def parse_advertisement(printed: str) -> tuple[str, ...]:
    """The thumbprints (RFC 7638, SHA-256) of the keys that sign, sorted. Raises ValueError for anything else. Where it
    comes from was proven by the connection, so its signature is not looked at."""
    try:
        payload = json.loads(printed)["payload"]
        keys = json.loads(_unpadded(str(payload)))["keys"]
        found = sorted(_thumbprint(key) for key in keys if _SIGNS in key.get("key_ops", ()))
    except (KeyError, TypeError, AttributeError, binascii.Error, ValueError) as error:
        raise ValueError("this is no advertisement of tang's") from error
    if not found:
        raise ValueError("tang advertises no key that signs")
    return tuple(found)


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_REQUIRED = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}


def _thumbprint(key: Mapping[str, Any]) -> str:
    members = {name: key[name] for name in _REQUIRED[key["kty"]]}
    if not all(isinstance(value, str) for value in members.values()):
        raise ValueError("a member of a key is no text")
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def find_url(one: Tang, keeper: Machine, spec: MachineSpec, client: MachineSpec) -> str | None:
    """Where the client's first stage reaches it: as described, else at an address on a network that both are on, else
    at any that others may reach; IPv4 first. None: it has none."""
    if one.url:
        return one.url
    addresses = sorted(_reachable(keeper.facts, spec, client), key=lambda found: (not found[0], found[1].family))
    for _, address in addresses[:1]:
        host = str(address.ip) if address.family is Family.IPV4 else f"[{address.ip}]"
        return f"http://{host}:{one.port}"
    return None


def _reachable(facts: Facts, spec: MachineSpec, client: MachineSpec) -> Iterator[tuple[bool, Address]]:
    """Its addresses, and whether each is on a network of the client's."""
    shared = {(nic.bridge, nic.network, nic.tag) for nic in client.network}
    near = {
        mac for nic, mac in zip(spec.network, facts.macs, strict=False) if (nic.bridge, nic.network, nic.tag) in shared
    }
    for address in facts.addresses:
        if not address.ip.is_link_local and not address.ip.is_loopback:
            yield address.mac in near, address


def moves_about(spec: MachineSpec) -> bool:
    """None of its addresses is a fixed one."""
    return not any(ip.method == "static" for nic in spec.network for ip in (nic.ipv4, nic.ipv6))


def find_unsafe(
    encryption: Encryption | None, node: str, node_of: Callable[[str], str], luks: Mapping[str, str]
) -> Sequence[str]:
    """What a plan says of machines that serve tang, a sentence each. `node`: of the encrypted machine."""
    lines = []
    for one in keepers_of(encryption):
        if f"{KNOWN}{one.machine}" not in luks:
            lines.append(
                f"tang: the address and the key of {one.machine} are known when it is ready, and it comes first"
            )
        if node and node_of(str(one.machine)) == node:
            lines.append(
                f"tang: {one.machine} is on the same node, {node}: who takes that away has both; to keep them apart, "
                f"set `node` of {one.machine} to another one, best on another hypervisor"
            )
    return lines


def parse_known(luks: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """By machine: the address and the thumbprint that the disk's key is sealed for."""
    found = {name.removeprefix(KNOWN): text.partition(" ") for name, text in luks.items() if name.startswith(KNOWN)}
    return {name: (url, thumbprint) for name, (url, _, thumbprint) in found.items() if re.fullmatch(r"\S+", thumbprint)}
