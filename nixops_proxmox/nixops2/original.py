"""Machines that the original nixops-proxmox made, by what it left in NixOps's state: taken over as they are.

First what the API tells (`take_over`), at the first touch. Then, when the machine must be reached, what the guest agent
tells (`Meet`). It changes nothing of the VM except one line in root's authorized_keys.
"""

import shlex
from collections.abc import Mapping
from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.compose import Parts
from nixops_proxmox.errors import CommandFailed, NeedsPermission, NotFound
from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.nixops2.book import MachineRecord
from nixops_proxmox.pve.api.answers import GuestSeen
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.vm.drives import volumes_of
from nixops_proxmox.pve.vm.identity import find_mark, uuid_of
from nixops_proxmox.pve.wire.properties import parse_nic
from nixops_proxmox.reach.patience import Patience
from nixops_proxmox.spec import InstallMethod, MachineSpec
from nixops_proxmox.texts import script_marker

# What it kept beside NixOps's own attributes. The secrets among them are of no use.
SECRETS = ("proxmox.password", "proxmox.tokenValue", "proxmox.privateHostKey")  # the last one is a client key
NOTES = "NixOps-managed VM"
TAKEN = "original"  # in the facts' `extra`: the MACs by slot, as the original left them

USUAL = Patience()

_MEET = """\
umask 077
mkdir -p /root/.ssh
grep -qsxF {key} /root/.ssh/authorized_keys || printf '%s\\n' {key} >> /root/.ssh/authorized_keys
cat /etc/ssh/ssh_host_ed25519_key.pub
"""


def meet_script(key: str) -> str:
    """Let the client key in, and print the machine's public host key. Safe to repeat."""
    return script_marker("meet", key.strip()) + _MEET.format(key=shlex.quote(key.strip()))


def is_originals(attributes: Mapping[str, str]) -> bool:
    return "vmId" in attributes and "proxmox.serverUrl" in attributes


def take_over(name: str, attributes: Mapping[str, str], profile: str, hypervisor: PveHypervisor) -> MachineRecord:
    """The record of a machine as it stands. Raises NeedsPermission for a VM that does not look like the one that was
    made."""
    vmid = int(attributes["vmId"])
    guest = hypervisor.resources().guests.get(vmid)
    if guest is None:
        raise NotFound(
            f"{name}: the original plugin made VM {vmid}, and the cluster of the profile {profile!r} shows none",
            hint="is it the right profile (`deployment.proxmox.profile`), and may its account see the VM (VM.Audit)?",
        )
    config = dict(hypervisor.client.get_config(guest.node, vmid).values)
    refuse_strangers(name, guest, config)
    macs = {
        f"net{number}": parse_nic(config[f"net{number}"])["macaddr"] for number in range(32) if f"net{number}" in config
    }
    facts = Facts(
        uuid=uuid_of(config),
        profile=profile,
        vmid=vmid,
        node=guest.node,
        macs=tuple(mac.lower() for mac in macs.values()),
        claimed=0,
        volumes=volumes_of(config),
        nameless=True,
        installed_by=InstallMethod.CONFIGURATION.value,
        extra={TAKEN: " ".join(f"{slot}={mac}" for slot, mac in macs.items())},
    )
    phase = Phase.INSTALLED if guest.status == "running" else Phase.STOPPED
    return MachineRecord(phase, facts, MachineSpec(name=name, profile=profile))


def refuse_strangers(name: str, guest: GuestSeen, config: Mapping[str, str]) -> None:
    """Only a VM with the original's notes or the machine's name is taken over, and none that is somebody's already."""
    notes = config.get("description", "")
    mark = find_mark(notes)
    if mark is not None:
        raise NeedsPermission(f"{name}: VM {guest.vmid} belongs to {mark.machine} of the deployment {mark.deployment}")
    if guest.kind != "qemu" or not (NOTES in notes or config.get("name") == name):
        raise NeedsPermission(
            f"{name}: VM {guest.vmid} is called {config.get('name')!r} and does not look like the one that was made",
            hint=f"if it is the one, write {NOTES!r} into its notes",
        )
    if not uuid_of(config):
        raise NeedsPermission(
            f"{name}: VM {guest.vmid} has no SMBIOS UUID to know it by",
            hint=f"`qm set {guest.vmid} --smbios1 uuid=$(uuidgen)` on {guest.node} gives it one at its next start",
        )


def as_it_is(spec: MachineSpec, facts: Facts) -> MachineSpec:
    """The description with the MACs that the VM's NICs have: the guest may know them by these."""
    if TAKEN not in facts.extra:
        return spec
    macs = dict(word.split("=", 1) for word in facts.extra[TAKEN].split())
    nics = tuple(
        nic if nic.mac or nic.slot not in macs else nic.model_copy(update={"mac": macs[nic.slot]})
        for nic in spec.network
    )
    return spec.model_copy(update={"network": nics})


class Meet(Errand):
    """Learn the host key of the machine that the original plugin made"""

    task = "qmstart"

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a VM that runs is not started, and a key that is let in is not added again."""
        world.hypervisor.start_vm(machine.facts, attempt.note_task)
        return _meet(attempt.thing, self._parts)

    @override
    def lands(self, world: World, machine: Machine) -> Phase:
        return Phase.INSTALLED


def _meet(machine: Machine, parts: Parts) -> Facts:
    """The machine's own host key, read by its agent, and our client key put into it."""
    agent = parts.agent(machine)
    agent.wait_for_agent(USUAL.boot, USUAL.growth)
    done = agent.run_script(meet_script(parts.keys.client_key().public))
    last = done.stdout.strip().splitlines()[-1:]
    if done.status != 0 or not last or not last[0].startswith("ssh-"):
        raise CommandFailed(
            f"{machine.name}: its host key could not be read: {done.stderr.strip()}",
            status=done.status,
            output=done.stdout,
            hint="has it an Ed25519 host key, and an agent that may run commands?",
        )
    return replace(machine.facts, host_key=" ".join(last[0].split()[:2]))
