"""Takes `nixops` into a lab's own network before anything is opened, as the command line does."""

import logging
import sys
from pathlib import Path

from nixops_proxmox.errors import DeployError
from nixops_proxmox.namespace import enter
from nixops_proxmox.pve.wire.networks import usual_profile
from nixops_proxmox.pve.wire.profiles import list_profiles, load_profile

log = logging.getLogger(__name__)


def is_nixops() -> bool:
    """False in another program that has NixOps as a library."""
    return Path(sys.argv[0]).name == "nixops"


def enter_lab() -> None:
    """If the usual hypervisor is a lab, go on as the same command inside of its network. Never raises."""
    try:
        profile = usual_profile()
        namespace = load_profile(profile).namespace if profile in list_profiles() else ""
        if namespace:
            enter(namespace)
    except DeployError as error:
        log.debug("not in a lab's network: %s", error)  # `nixops --help` must work; what needs the lab will say so
