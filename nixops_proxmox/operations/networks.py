"""The hypervisors that a deployment works on."""

from typing import TYPE_CHECKING

from nixops_proxmox.pve.wire.networks import usual_profile

if TYPE_CHECKING:
    from nixops_proxmox.operations.deployed import Deployed


def described_profiles(deployed: "Deployed", given: str = "") -> list[str]:
    """The hypervisors of the described machines. Where none is described, the usual one."""
    return sorted({deployed.spec(name).profile for name in deployed.described()}) or [usual_profile(given)]


def used_profiles(deployed: "Deployed") -> list[str]:
    """The hypervisors of the described and the recorded machines and volumes."""
    described = [deployed.spec(name).profile for name in deployed.described()]
    return sorted(
        {
            *described,
            *deployed.volumes.profiles(),
            *deployed.resources.profiles(),
            *(machine.facts.profile for machine in deployed.record.machines()),
        }
        - {""}
    )
