"""The way to a machine behind another one of ours: `endpoint.through`. Its jump host is known to us, with its key."""

import threading
from collections.abc import Mapping
from pathlib import Path

from nixops_proxmox.model import Endpoint, Machine
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.ssh.argv import Hop, jump_text, name_hops
from nixops_proxmox.ssh.jump import resolve
from nixops_proxmox.ssh.keys import KeyStore
from nixops_proxmox.ssh.known_hosts import KnownHost, write_known_hosts
from nixops_proxmox.state.record import Winners


class Ways:
    """The ways of one deployment. `directory`: where its known_hosts files are."""

    def __init__(self, record: Winners, keys: KeyStore, directory: Path) -> None:
        self._record, self._keys, self._directory = record, keys, directory
        self._lock = threading.Lock()

    def filled(self, spec: MachineSpec) -> MachineSpec:
        """With the jump hosts that lead through the machine of `endpoint.through`, as they are now. As it is, if we do
        not know where that machine is."""
        way = self.find(spec)
        if way is None:
            return spec
        return spec.model_copy(update={"endpoint": spec.endpoint.model_copy(update={"jump": jump_text(way)})})

    def find(self, spec: MachineSpec) -> Endpoint | None:
        """Where the machine is that leads to this one."""
        through = spec.endpoint.through
        return self._gates().get(through, (None, None))[0] if through else None

    def hops(self, jump: str) -> tuple[Hop, ...]:
        """The jump hosts of an endpoint. One that is a machine of ours has to prove the key that we gave it, and is
        shown our own. Others are as the user's SSH configuration means them."""
        if not jump:
            return ()  # nearly all: else a fleet would read all machines for each connection
        gates = self._gates()
        named = name_hops(jump, {name: endpoint for name, (endpoint, _) in gates.items()})
        return tuple(self._ours(hop, gates[name][1]) if name else resolve(hop) for hop, name in named)

    def _gates(self) -> Mapping[str, tuple[Endpoint, Machine]]:
        machines = self._record.machines()
        return {one.name: (one.facts.endpoint, one) for one in machines if one.facts.endpoint and one.facts.host_key}

    def _ours(self, hop: Hop, machine: Machine) -> Hop:
        alias = f"{machine.name}.{self._record.name}"
        known = self._directory / "known_hosts" / f".{machine.name}-gate"
        keys = machine.facts.shown_keys
        with self._lock:
            write_known_hosts(known, {machine.name: KnownHost(keys, alias, ((hop.host, hop.port),))})
        self._keys.client_key()
        own = self._keys.client_key_file
        return Hop(hop.host, hop.port, hop.user, hop.port_given, alias, known_hosts=(known,), identities=(own,))
