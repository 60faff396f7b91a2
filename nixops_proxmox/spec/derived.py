"""The MACs of schemes, filled in."""

import hashlib
from collections.abc import Callable, Iterable

from nixops_proxmox.spec.machine import MachineSpec, Nic
from nixops_proxmox.spec.macs import BYTES, MAC_POOLS, MAC_SCHEMES, MacPoolSpec, MacSchemeSpec
from nixops_proxmox.spec.tree import Mistakes, nearest


def derive_mac(scheme: MacSchemeSpec, machine: str, nic: Nic) -> str:
    """The NIC's MAC. Raises ValueError, which says what is missing or too large."""
    role = b""
    if scheme.roles:
        if nic.mac_role is None:
            raise ValueError(f"the scheme {scheme.name} wants macRole: one of {', '.join(scheme.roles)}")
        if nic.mac_role not in scheme.roles:
            raise ValueError(
                f"the scheme {scheme.name} has no role {nic.mac_role}{nearest(nic.mac_role, scheme.roles)}"
            )
        role = bytes([scheme.roles[nic.mac_role]])
    elif nic.mac_role is not None:
        raise ValueError(f"the scheme {scheme.name} has no roles")
    room = BYTES - len(scheme.head) - len(role)
    if nic.mac_number is None:
        tail = hashlib.sha256(f"{machine}/{nic.slot}".encode()).digest()[:room]
    elif nic.mac_number >= 1 << 8 * room:
        raise ValueError(f"the scheme {scheme.name} has room for numbers up to {(1 << 8 * room) - 1}")
    else:
        tail = nic.mac_number.to_bytes(room)
    return ":".join(f"{byte:02X}" for byte in scheme.head + role + tail)


def with_derived(
    machines: Iterable[MachineSpec],
    schemes: Iterable[MacSchemeSpec],
    pools: Iterable[MacPoolSpec],
    path_of: Callable[[str], str],
    mistakes: Mistakes,
) -> list[MachineSpec]:
    """The machines with the MACs of their schemes. `path_of` a machine's name."""
    known, lists = {scheme.name: scheme for scheme in schemes}, {pool.name for pool in pools}

    def derived(machine: MachineSpec, nic: Nic, path: str) -> Nic:
        sources = [name for name in ("mac", "pool", "mac_scheme") if getattr(nic, name) is not None]
        if len(sources) > 1:
            mistakes.add(path, "has more than one of mac, pool and macScheme: set only one")
        elif nic.pool is not None and nic.pool not in lists:
            hint = f"{MAC_POOLS}.{nic.pool}.file = ./machines.yml;"
            text = f"there is no pool {nic.pool} in {MAC_POOLS}{nearest(nic.pool, lists)}"
            mistakes.add(f"{path}.pool", text, hint=hint)
        elif nic.mac_scheme is None:
            if nic.mac_role is not None or nic.mac_number is not None:
                mistakes.add(path, "macRole and macNumber have no meaning without macScheme")
        elif nic.mac_scheme not in known:
            text = f"there is no scheme {nic.mac_scheme} in {MAC_SCHEMES}{nearest(nic.mac_scheme, known)}"
            mistakes.add(f"{path}.macScheme", text, hint=f'{MAC_SCHEMES}.{nic.mac_scheme}.prefix = "02:4D";')
        else:
            try:
                return nic.model_copy(update={"mac": derive_mac(known[nic.mac_scheme], machine.name, nic)})
            except ValueError as error:
                mistakes.add(f"{path}.macScheme", str(error))
        return nic

    def whole(machine: MachineSpec) -> MachineSpec:
        path = f"{path_of(machine.name)}.network"
        nics = tuple(derived(machine, nic, f"{path}.{nic.slot}") for nic in machine.network)
        return machine if nics == machine.network else machine.model_copy(update={"network": nics})

    return [whole(machine) for machine in machines]
