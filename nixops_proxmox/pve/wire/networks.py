"""Chooses the hypervisor that a command works on, and enters its network. Quick to import, because a command that goes
on in a lab's network begins again there."""

import os
from collections.abc import Mapping, Sequence

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.namespace import enter
from nixops_proxmox.pve.wire.profiles import DEFAULT, list_profiles, load_table
from nixops_proxmox.spelling import PROFILE_VARIABLE


def choose_profile(given: str = "", environment: Mapping[str, str] | None = None) -> str:
    """The hypervisor that the user chose. It overrides the description. Empty: the description decides. Without a
    profile `default`, the only other one counts."""
    environment = os.environ if environment is None else environment
    if chosen := given or environment.get(PROFILE_VARIABLE, ""):
        return chosen
    known = list_profiles()
    return known[0] if len(known) == 1 and known[0] != DEFAULT else ""


def usual_profile(given: str = "") -> str:
    """The hypervisor for machines that do not name one."""
    return choose_profile(given) or DEFAULT


def enter_networks(profiles: Sequence[str]) -> None:
    """If one of these hypervisors is a lab with a network of its own, go on inside of it (the process is replaced)."""
    known = list_profiles()
    namespaces = {str(load_table(name).get("namespace", "")) for name in profiles if name in known} - {""}
    if len(namespaces) > 1:
        raise ConfigError(
            f"{', '.join(profiles)} are labs with separate networks, and a run can enter only one",
            hint="select the machines of one lab at a time",
        )
    for namespace in namespaces:
        enter(namespace)
