"""Where MACs come from: lists that people share, and schemes by which one follows from names and numbers."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.tree import Mistakes

MAC_POOLS, MAC_SCHEMES = "resources.macPools", "resources.macSchemes"
BYTES = 6
LOCAL, MULTICAST = 0x02, 0x01  # bits of the first byte


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){0,4}", text):
        raise ValueError("expected 1 to 5 bytes such as 02:4D")
    return text.upper()


class MacPoolSpec(Frozen):
    """One of `resources.macPools`: a file with a list of MACs, which more people than we take entries from."""

    name: v.DnsName
    file: v.SharedFile


class MacSchemeSpec(Frozen):
    """One of `resources.macSchemes`. A MAC is the prefix, the site's byte, the role's byte, and then a number or a hash
    of the machine's name. `registered`: the prefix is one that its owner has from the IEEE."""

    name: v.DnsName
    prefix: Annotated[str, AfterValidator(_prefix)]
    site: Annotated[int, Field(ge=0, le=255)] | None = None
    roles: Mapping[str, int] = {}
    registered: bool = False

    @property
    def head(self) -> bytes:
        """What all MACs of the scheme begin with."""
        return bytes.fromhex(self.prefix.replace(":", "")) + bytes([] if self.site is None else [self.site])


def check_scheme(scheme: MacSchemeSpec, at: Callable[[str], str], mistakes: Mistakes) -> None:
    first = scheme.head[0]
    if first & MULTICAST:
        mistakes.add(at("prefix"), f"{scheme.prefix} begins multicast addresses: the first byte must be even")
    elif not first & LOCAL and not scheme.registered:
        mistakes.add(
            at("prefix"),
            f"{scheme.prefix} is not locally administered, so it may be a maker's",
            hint=f"begin with {first | LOCAL:02X}, or set registered = true if the prefix is your own",
        )
    for role, byte in scheme.roles.items():
        if not 0 <= byte <= 255:
            mistakes.add(f"{at('roles')}.{role}", f"expected a byte, 0 to 255, got {byte}")
    if BYTES - len(scheme.head) - bool(scheme.roles) < 1:
        mistakes.add(at("prefix"), "prefix, site and role leave no byte for a number")
