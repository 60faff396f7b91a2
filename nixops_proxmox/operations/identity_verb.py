"""Who machines are, also before they exist: secrets can be encrypted to them, and one deploy is enough."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.operations.open_deployment import OpenDeployment
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.state.lease import Lease


@dataclass(frozen=True)
class KnownKey:
    """`host_key`: public, "ssh-ed25519 AAAA…". `places`: (address, port) of its sshd, as far as they are known.
    `is_new`: made by this very call. `next_key`: the one that it gets in the place of `host_key`; empty: none."""

    machine: str
    uuid: str
    host_key: str
    places: Sequence[tuple[str, int]]
    is_new: bool
    next_key: str = ""


class IdentityVerb(OpenDeployment):
    """One deployment, and its machines' identities."""

    def identities(self, names: Sequence[str]) -> list[KnownKey]:
        """A machine that was never made gets its UUID and host key now, and is made with them later. Raises ConfigError
        if a machine's host key is not known, SpecError for one that is neither described nor recorded."""
        recorded = {name: self.record.machine(name) for name in names}
        lacking = [name for name, machine in recorded.items() if not machine.facts.uuid]
        self._refuse_undescribed(lacking)
        if lacking:
            with self._lease() as lease:
                recorded |= {name: self._minted(name, lease) for name in lacking}
        return [self._identity(recorded[name], is_new=name in lacking) for name in names]

    def prepare_identities(self, names: Sequence[str]) -> list[KnownKey]:
        """Make the keys that machines get next, so that they are known before they are used. Nothing is asked of the
        machines. ConfigError for one that was never made: nothing uses its key yet."""
        self.identities(names)
        for name in names:
            if self.record.machine(name).phase is Phase.ABSENT:
                raise ConfigError(
                    f"{name}: it was never made, and its host key is in no use yet",
                    hint=f"{command(Verb.DESTROY, name)} forgets it, and another is made when it is asked for",
                )
        with self._lease() as lease:
            for name in names:
                self._prepare(self.record.machine(name), lease)
        return self.identities(names)

    def _prepare(self, machine: Machine, lease: Lease) -> None:
        _, public = self._parts.keys.next_host_key(machine.facts.uuid)
        if machine.facts.next_host_key != public:
            machine = machine.moved(machine.phase, replace(machine.facts, next_host_key=public))
            self.record.journal(lease).record(machine, "its next host key was made")

    def _minted(self, name: str, lease: Lease) -> Machine:
        """Its identity, recorded; another run may have been quicker."""
        machine = self.record.machine(name)
        if machine.facts.uuid:
            return machine
        identity = str(uuid.uuid4())
        _, public = self._parts.keys.host_key(identity)
        machine = machine.moved(machine.phase, replace(machine.facts, uuid=identity, host_key=public))
        self.record.journal(lease).record(machine, "its identity was made before the machine")
        return machine

    def _forget_identity(self, name: str, lease: Lease) -> None:
        """Forget the identity of a machine that was never made."""
        if identity := self.record.machine(name).facts.uuid:
            self._parts.keys.forget(identity)
            self.record.forget(name, lease)

    def _identity(self, machine: Machine, *, is_new: bool) -> KnownKey:
        if not machine.facts.host_key:
            raise ConfigError(
                f"{machine.name}: its host key is not known, because the machine is {machine.phase}",
                hint=f"{command(Verb.DEPLOY, machine.name)} learns it",
            )
        spec = self.spec(machine.name) if self._is_known(machine) else None
        return KnownKey(
            machine.name,
            machine.facts.uuid,
            machine.facts.host_key,
            places_of(machine, spec),
            is_new=is_new,
            next_key=machine.facts.next_host_key,
        )

    def _is_known(self, machine: Machine) -> bool:
        return machine.name in self.described() or machine.phase is not Phase.ABSENT


def places_of(machine: Machine, spec: MachineSpec | None) -> list[tuple[str, int]]:
    """Where it was reached the last time, and where its description says that it is."""
    endpoint = machine.facts.endpoint
    found = [(endpoint.host, endpoint.port)] if endpoint else []
    if spec is not None:
        found += [(str(address), spec.ssh.port) for nic in spec.network for address in nic.addresses]
    return list(dict.fromkeys(found))
