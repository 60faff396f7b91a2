"""Who the machine is: minted and recorded before anything uses it."""

import hashlib
import uuid
from dataclasses import replace

from nixops_proxmox.core.table import Repeatable
from nixops_proxmox.errors import Unrecorded
from nixops_proxmox.kinds.machine.answers import deliver
from nixops_proxmox.kinds.machine.rekeying import move_script
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.spec import HOST_KEY, MachineSpec
from nixops_proxmox.spelling import Verb, command


class Reserve(Repeatable):
    """Reserve a VMID, a UUID, MACs and a host key"""

    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: nothing is made yet. An identity that was noted is kept, and only the VMID is chosen
        again."""
        refuse_unrecorded(world, machine)
        known = machine.facts
        identity = known.uuid or str(uuid.uuid4())
        place = world.hypervisor.choose_place(world.spec)
        _, host_key = world.keys.host_key(identity)
        return replace(
            machine.facts,
            uuid=identity,
            serials_from=known.serials_from if known.uuid else world.serials_from,
            profile=world.spec.profile,
            vmid=place.vmid,
            node=place.node,
            macs=macs_for(identity, world.spec),
            host_key=host_key,
            asked=world.spec.install.asked,
        )


def refuse_unrecorded(world: World, machine: Machine) -> None:
    """Raises Unrecorded if a VM bears the mark of a machine that has no record, or whose recorded VM is gone: the
    record was lost, or is elsewhere, or the VM was restored under another VMID."""
    lost = machine.phase is Phase.LOST
    if world.permissions.make_another or (machine.facts.vmid and not lost):
        return
    found = world.hypervisor.find_bearers(machine.deployment, machine.name, world.recorded())
    if found:
        where = " and ".join(f"VM {one.vmid} on {one.node} (UUID {one.uuid})" for one in found)
        what = "its recorded VM is gone" if lost else "it is not in the record"
        raise Unrecorded(
            f"{machine.name}: {what}, but its mark (deployment {machine.deployment}) is on {where};"
            " a deploy would create a second one",
            hint=f"{command(Verb.RECOVER)} records it"
            + (f", after {command(Verb.DESTROY, '--forget', machine.name)}" if lost else "")
            + f"; {command(Verb.MAKE_ANOTHER)} to create a new machine anyway",
        )


def place_of(facts: Facts) -> str:
    """Where its system has its host key."""
    return facts.host_key_path or HOST_KEY


def at_place(facts: Facts, spec: MachineSpec) -> Facts:
    """The facts of a machine whose host key was put where it is described."""
    return replace(facts, host_key_path="" if spec.ssh.host_key == HOST_KEY else spec.ssh.host_key)


def move_host_key(world: World, machine: Machine, wanted: str) -> Facts:
    """The facts of a machine that has its host key where it is described, too. It stays where it was: the system before
    may come back. `wanted`: the system; empty: the verb knows no description."""
    have, to = place_of(machine.facts), world.spec.ssh.host_key
    if not wanted or have == to:
        return machine.facts
    world.reporter.detail(machine, f"putting its host key at {to}, too")
    shell = world.guest.system_shell(machine, world.spec)
    failed = f"{machine.name}: its host key could not be put at {to}"
    deliver(shell, move_script(have, to), b"", failed, f"is there a folder that stays, and is it still at {have}?")
    return at_place(machine.facts, world.spec)


def macs_for(identity: str, spec: MachineSpec) -> tuple[str, ...]:
    """A MAC for each NIC: the declared one, or one that follows from the machine's UUID and the slot, so that adding
    a NIC never changes another's. Under BC:24:11, the prefix that PVE's makers registered (PVE's default since 8.1)."""
    return tuple((nic.mac or derived_mac(identity, nic.slot)).lower() for nic in spec.network)


def with_macs(machine: Machine, spec: MachineSpec) -> Machine:
    """The machine with a MAC for every NIC of the description, which may have more of them than when it was made."""
    return machine.moved(machine.phase, replace(machine.facts, macs=macs_for(machine.facts.uuid, spec)))


def derived_mac(identity: str, slot: str) -> str:
    tail = hashlib.sha256(f"{identity}/{slot}".encode()).digest()[:3]
    return "bc:24:11:" + ":".join(f"{byte:02x}" for byte in tail)
