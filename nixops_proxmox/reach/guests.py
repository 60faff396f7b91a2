"""The OS inside, for the core: first the agent, then the endpoint race, then SSH. Satisfies `ports.Guest`."""

import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nixops_proxmox.errors import AgentSilent, CommandFailed, GuestLost, NoAgentDevice, NoEndpoint, SshError
from nixops_proxmox.guest.agent import NOT_NOW, Agent
from nixops_proxmox.guest.disks import DeclaredDisks, check_disks, find_disk, list_disks, match_disks
from nixops_proxmox.guest.growing import TIME as GROW_TIME
from nixops_proxmox.guest.growing import foresee, grow, look
from nixops_proxmox.guest.host_view import HostView
from nixops_proxmox.guest.installer import enter_script, parse_entered
from nixops_proxmox.guest.interfaces import addresses_of
from nixops_proxmox.guest.introduction import introduce_script, is_introduced
from nixops_proxmox.guest.vigil import Vigil
from nixops_proxmox.kinds.machine.ports import InstallerSeen, Reporter, Voice
from nixops_proxmox.kinds.machine.ports import Shell as ShellPort
from nixops_proxmox.model import Address, Completed, Endpoint, Facts, GrownDisk, GuestDisk, Machine
from nixops_proxmox.paths import expanded
from nixops_proxmox.reach.candidates import Candidate, Choice, LeftOut, choose_candidates, wanted_of
from nixops_proxmox.reach.classify import find_reach
from nixops_proxmox.reach.health import COMPLAINTS, COMPLAINTS_TIME, AgentVoice, find_ailments
from nixops_proxmox.reach.patience import Patience
from nixops_proxmox.reach.race import Proof, RaceResult, StopSignal, race
from nixops_proxmox.reach.ways import Ways
from nixops_proxmox.spec import Disk, MachineSpec
from nixops_proxmox.spec.serials import disk_serial
from nixops_proxmox.ssh.argv import Access, config_text
from nixops_proxmox.ssh.files import ensure_private_directory, replace_file
from nixops_proxmox.ssh.identity import LoginKeys
from nixops_proxmox.ssh.keys import KeyPair, KeyStore, new_key_pair, start_identity_file
from nixops_proxmox.ssh.known_hosts import USER_FILES, KnownHost, write_known_hosts
from nixops_proxmox.ssh.login import SshLogin
from nixops_proxmox.ssh.probe import probe_host_key
from nixops_proxmox.ssh.shell import SshShell
from nixops_proxmox.ssh.trust import find_named
from nixops_proxmox.state.record import Winners
from nixops_proxmox.texts import tail

PAUSE = 1.0  # seconds between two races
PROBE_TIME = 5.0
INTRODUCE_TIME = 300.0  # cloud-init's first run is waited for


@dataclass(frozen=True)
class _Entry:
    """This process's way into an installer: the boot it belongs to, and the key that was authorized in it."""

    boot_id: str
    host_keys: tuple[str, ...]
    endpoint: Endpoint
    pair: KeyPair
    identity: Path


def site() -> str:
    """Where the operator is, to decide what can be reached: the computer that this runs on."""
    return socket.gethostname()


class Guests:
    """One for all machines of a run. Each machine is used by one thread at a time."""

    def __init__(  # noqa: PLR0913 -- its parts, each by name
        self,
        agents: Callable[[Machine], Agent],
        keys: KeyStore,
        record: Winners,
        directory: Path,
        reporter: Reporter,
        stack: ExitStack,
        patience: Patience,
        may_act: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        *,
        hosts: Callable[[Machine], HostView] | None = None,
    ) -> None:
        """`may_act` is asked right before anything is done in a guest, or recorded. `hosts`: what nodes see of
        containers."""
        self._hosts = hosts
        self._may_act, self._sleep = may_act, sleep
        self._patience = patience
        self._quiet = patience.sshd  # seconds that a guest which shows nothing is waited for
        self._agents, self._keys, self._record = agents, keys, record
        self._directory, self._reporter, self._stack = directory, reporter, stack
        self._ways = Ways(record, keys, directory)
        self._entries: dict[str, _Entry] = {}
        self._shells: dict[str, SshShell] = {}
        self._lock = threading.Lock()

    def hurried(self) -> "Guests":
        """The same ways in, for verbs that change nothing. They soon give up on a guest that shows nothing. A slow
        guest gets as much time as always."""
        looking = copy(self)
        looking._patience = replace(self._patience, boot=self._patience.look)  # noqa: SLF001 -- our own class
        looking._quiet = self._patience.look  # noqa: SLF001
        return looking

    # The installer.

    def enter_installer(self, machine: Machine, spec: MachineSpec, *, keys: Sequence[str] = ()) -> InstallerSeen:
        pair, identity = self._ephemeral(machine)
        agent = self._agents(machine)
        self._reporter.detail(machine, "waiting for the installer's guest agent")
        agent.wait_for_agent(self._patience.boot, self._patience.growth)
        seen = parse_entered(agent.run_script(enter_script([pair.public, *keys])))
        if not seen.is_installer:
            raise GuestLost(
                f"{machine.name}: the installer should run, but {seen.system or 'another system'} answers",
                hint="is the ISO an installer with our marker? `nix build .#installer-iso` makes one",
            )
        addresses, result = self._find_endpoint(machine, spec, agent, seen.host_keys, installer=True)
        endpoint = result.winner.candidate.endpoint
        self._entries[machine.name] = _Entry(seen.boot_id, seen.host_keys, endpoint, pair, identity)
        return InstallerSeen(
            seen.boot_id,
            seen.host_keys,
            replace(machine.facts, addresses=addresses, endpoint=endpoint),
        )

    def installer_shell(self, machine: Machine, spec: MachineSpec) -> ShellPort:
        entry = self._entry(machine, spec)
        return self._shell(
            machine.name, self._login(entry.endpoint, entry.host_keys, LoginKeys(keys=(entry.pair.private,)))
        )

    def _shell(self, name: str, login: SshLogin) -> SshShell:
        """One connection for each machine. It is kept while it is the same way in."""
        shell = self._shells.get(name)
        if shell is None or shell.login != login:
            self.leave(name)
            shell = self._shells[name] = SshShell(login, may_act=self._may_act)
        return shell

    def leave(self, name: str) -> None:
        """Close the connection to a machine, if there is one."""
        shell = self._shells.pop(name, None)
        if shell is not None:
            shell.close()

    def _entry(self, machine: Machine, spec: MachineSpec) -> _Entry:
        """Our way in. We enter again if this process has not, or if the installer was restarted."""
        entry = self._entries.get(machine.name)
        if entry is None or entry.boot_id != machine.facts.boot_id:
            self.enter_installer(machine, spec)
            entry = self._entries[machine.name]
        if entry.boot_id != machine.facts.boot_id:
            raise GuestLost(f"{machine.name}: the installer was restarted; what ran in it was lost")
        return entry

    def _ephemeral(self, machine: Machine) -> tuple[KeyPair, Path]:
        """The client key of this machine's install: in memory, and in a 0600 file that ends with this process."""
        entry = self._entries.get(machine.name)
        if entry is not None:
            return entry.pair, entry.identity
        pair = new_key_pair("nixops-proxmox-install")
        with self._lock:
            return pair, self._stack.enter_context(start_identity_file(pair))

    def list_disks(self, shell: ShellPort, machine: Machine, spec: MachineSpec) -> Sequence[GuestDisk]:
        return match_disks(machine.name, _wanted(machine, spec), list_disks(shell.run), nameless=machine.facts.nameless)

    def prove_disks(
        self, shell: ShellPort, machine: Machine, spec: MachineSpec, accounted: Collection[str]
    ) -> Sequence[GuestDisk]:
        found, wanted = list_disks(shell.run), _wanted(machine, spec)
        facts = machine.facts
        contents = facts.contents if facts.claimed >= 0 else {}
        return check_disks(machine.name, wanted, found, accounted=accounted, contents=contents, nameless=facts.nameless)

    def grow_disk(
        self, shell: ShellPort, machine: Machine, spec: MachineSpec, disk: Disk, tell: Callable[[str], None]
    ) -> GrownDisk:
        device = self._device(shell, machine, spec, disk)
        return grow(partial(shell.run, timeout=GROW_TIME), disk.slot, device, disk.size, tell)

    def foresee_growth(self, shell: ShellPort, machine: Machine, spec: MachineSpec, disk: Disk) -> GrownDisk:
        return foresee(look(shell.run), disk.slot, self._device(shell, machine, spec, disk))

    def _device(self, shell: ShellPort, machine: Machine, spec: MachineSpec, disk: Disk) -> str:
        """By its serial. Its size is not looked at: the guest may not see the new one yet."""
        one = (disk, disk_serial(machine.facts.serial_base, disk))
        wanted, found = _wanted(machine, spec), list_disks(shell.run)
        return find_disk(machine.name, one, wanted, found, nameless=machine.facts.nameless).device

    # The installed system.

    def introduce(
        self, machine: Machine, spec: MachineSpec, files: Mapping[str, tuple[str, int]], authorized: Sequence[str]
    ) -> None:
        users = tuple(dict.fromkeys(("root", spec.ssh.user)))
        script = introduce_script(files, authorized, users)
        done = (self._introduce_by_ssh if spec.is_container else self._introduce_by_agent)(machine, spec, script)
        if not is_introduced(done):
            raise CommandFailed(
                f"{machine.name}: the copied system did not take its identity: {tail(done.stderr.strip(), 500)}",
                status=done.status,
                output=done.stderr,
                hint="it must let the guest agent run commands and write below /etc: look at it on its console"
                if not spec.is_container
                else "its template must let root write below /etc: look at it on its console",
            )

    def _introduce_by_agent(self, machine: Machine, spec: MachineSpec, script: str) -> Completed:
        del spec
        agent = self._agents(machine)
        self._reporter.detail(machine, "waiting for the copied system's guest agent")
        agent.wait_for_agent(self._patience.boot, self._patience.growth)
        self._reporter.detail(machine, "giving it its host key")
        return agent.run_script(script, timeout=INTRODUCE_TIME)

    def _introduce_by_ssh(self, machine: Machine, spec: MachineSpec, script: str) -> Completed:
        """Root logs in. The host key is the one that PVE made, or ours already, so this is safe to repeat."""
        keys = tuple(key for key in (machine.facts.host_key, machine.facts.first_key) if key)
        first = spec.model_copy(update={"ssh": spec.ssh.model_copy(update={"user": "root", "port": 22})})
        view = self._view(machine, first)
        self._reporter.detail(machine, "waiting for an address of the container")
        machine = machine.moved(machine.phase, replace(machine.facts, addresses=self._first_addresses(view)))
        _, result = self._find_endpoint(machine, first, view, keys, known=True)
        self._reporter.detail(machine, "giving it its host key")
        login = self._login(result.winner.candidate.endpoint, keys, self.identity(spec))
        try:
            return self._shell(machine.name, login).run(script, timeout=INTRODUCE_TIME)
        finally:
            self.leave(machine.name)

    def _view(self, machine: Machine, spec: MachineSpec) -> "Agent | HostView | None":
        """What tells the machine's addresses: its node, its agent, or nothing but the record."""
        if spec.is_container:
            return None if self._hosts is None else self._hosts(machine)
        return self._agents(machine) if spec.agent else None

    def meet_system(self, machine: Machine, spec: MachineSpec) -> Facts:
        agent = self._view(machine, spec)
        if agent is not None:
            waited_for = "an address of the container" if spec.is_container else "the system's guest agent"
            self._reporter.detail(machine, f"waiting for {waited_for}")
            try:
                told = self._first_addresses(agent)
            except NoAgentDevice:
                if machine.facts.endpoint is None:
                    raise
                agent = None  # it was met without one; verbs that read only the record do not know `agent`
            else:
                machine = machine.moved(machine.phase, replace(machine.facts, addresses=told))
        addresses, result = self._find_endpoint(machine, spec, agent, machine.facts.host_keys, known=True)
        endpoint = result.winner.candidate.endpoint
        self._may_act()
        self._record.remember_winner(machine.name, site(), endpoint)
        return replace(machine.facts, addresses=addresses, endpoint=endpoint)

    def system_shell(self, machine: Machine, spec: MachineSpec) -> ShellPort:
        return self._shell(machine.name, self.login(machine, spec))

    def new_shell(self, machine: Machine, spec: MachineSpec) -> ShellPort:
        self.leave(machine.name)
        lines, endpoint = self.explain(machine, spec)
        if endpoint is None:
            raise NoEndpoint(f"{machine.name}: no address answers as this machine", attempts=lines)
        shell = self._shell(machine.name, self._login(endpoint, machine.facts.host_keys, self.identity(spec)))
        shell.ensure_open()
        return shell

    def voice(self, machine: Machine, spec: MachineSpec) -> Voice | None:
        return AgentVoice(self._agents(machine), self._may_act) if spec.agent and not spec.is_container else None

    def ailments(self, shell: ShellPort, machine: Machine, spec: MachineSpec) -> Sequence[str]:
        login = self._login(shell.endpoint, machine.facts.host_keys, self.identity(spec))
        return find_ailments(spec.deploy.health, shell, login)

    def complaints(self, voice: Voice) -> str:
        return voice.run(COMPLAINTS, timeout=COMPLAINTS_TIME).stdout.strip()

    def login(self, machine: Machine, spec: MachineSpec) -> SshLogin:
        """How to log in to the installed system, at the endpoint in the facts, or wherever it is now."""
        endpoint = machine.facts.endpoint
        if endpoint is None or not self.answers(endpoint, machine.facts.host_keys):
            endpoint = self.meet_system(machine, spec).endpoint
        assert endpoint is not None
        return self._login(endpoint, machine.facts.host_keys, self.identity(spec))

    def _login(self, endpoint: Endpoint, keys: Sequence[str], identity: LoginKeys) -> SshLogin:
        return SshLogin(endpoint, tuple(keys), identity, answer=self._patience.sshd, hops=self._ways.hops)

    def identity(self, spec: MachineSpec) -> LoginKeys:
        own = expanded(spec.ssh.identity_file) if spec.ssh.identity_file else None
        return LoginKeys(keys=(self._keys.client_key().private,), files=(own,) if own else (), agent=True)

    def first_stage_shell(self, endpoint: Endpoint, host_key: str) -> SshShell:
        """A shell of its own in a first stage, which ends with it."""
        identity = LoginKeys(keys=(self._keys.client_key().private,), agent=True)
        return SshShell(self._login(endpoint, (host_key,), identity), may_act=self._may_act)

    def answers(self, endpoint: Endpoint, keys: Sequence[str]) -> bool:
        try:
            probe_host_key(SshLogin(endpoint, tuple(keys), hops=self._ways.hops), StopSignal(), timeout=PROBE_TIME)
        except SshError:
            return False
        return True

    # Endpoints.

    def choice(self, machine: Machine, spec: MachineSpec, addresses: Sequence[Address]) -> Choice:
        remembered = self._record.find_winner(machine.name, site())
        spec = self._ways.filled(spec)
        return choose_candidates(
            addresses,
            wanted_of(spec, machine.facts.macs),
            spec=spec,
            remembered=remembered,
        )

    def race(
        self,
        choice: Choice,
        keys: Sequence[str],
        deadline: float | None = None,
        reached: Callable[[Endpoint], None] = lambda _: None,
    ) -> RaceResult:
        """`reached` hears of the endpoints that took a connection, proven or not yet."""
        seconds = deadline or self._patience.race

        def probe(candidate: Candidate, cancelled: StopSignal) -> Proof:
            login = SshLogin(candidate.endpoint, tuple(keys), hops=self._ways.hops)
            tell = partial(reached, candidate.endpoint)
            key, connected = probe_host_key(login, cancelled, timeout=seconds, reached=tell)
            return Proof(find_named(key, keys) or key, connected)

        return race(choice.candidates, probe, keys=keys, deadline=seconds)

    def addresses(
        self, agent: Agent | HostView | None, machine: Machine, *, again: bool = False
    ) -> tuple[Address, ...]:
        """As the agent tells them now or, without one, as the record has them."""
        return machine.facts.addresses if agent is None else addresses_of(agent.interfaces(again=again), find_reach)

    def _first_addresses(self, agent: Agent | HostView | None) -> tuple[Address, ...]:
        """Waits until the agent, or the node, tells them."""
        if agent is None:
            return ()
        return addresses_of(agent.wait_for_interfaces(self._patience.boot, self._patience.growth), find_reach)

    def _find_endpoint(
        self,
        machine: Machine,
        spec: MachineSpec,
        agent: Agent | HostView | None,
        keys: Sequence[str],
        *,
        installer: bool = False,
        known: bool = False,
    ) -> tuple[tuple[Address, ...], RaceResult]:
        """Race until somebody is proven: leases and sshd come later than the agent, and in any order. `known`: the
        addresses in the facts are fresh, and are tried first."""
        if installer:
            spec = spec.model_copy(update={"ssh": spec.ssh.model_copy(update={"user": "root", "port": 22})})
        quiet = (
            self._patience.boot if agent is None else self._quiet
        )  # without an agent, nothing has waited for its boot
        vigil = Vigil(quiet, self._patience.sshd, self._patience.most)
        pause, length = 0.2, self._patience.race
        addresses = machine.facts.addresses
        if not known:
            addresses = self._addresses_now(agent, machine, addresses, again=False)
        while True:  # safe to repeat: a race only looks who answers
            choice = self.choice(machine, spec, addresses)
            reached: list[Endpoint] = []
            try:
                return addresses, self.race(choice, keys, length, reached.append)
            except NoEndpoint as error:
                vigil.see([f"it takes connections at {endpoint.host}" for endpoint in reached])
                booting = agent is not None and agent.is_booting()
                if booting:
                    vigil.extend()
                if vigil.is_over:
                    raise _no_endpoint(machine, vigil, error, choice) from error
                self._reporter.detail(machine, _waiting_for(reached, booting=booting))
                length = min(2 * length, self._patience.sshd) if reached else self._patience.race
            self._sleep(pause)
            pause = min(PAUSE, pause * 2)
            known_before, addresses = addresses, self._addresses_now(agent, machine, addresses)
            vigil.see([str(address) for address in addresses if address not in known_before])

    def _addresses_now(
        self, agent: Agent | HostView | None, machine: Machine, last: tuple[Address, ...], *, again: bool = True
    ) -> tuple[Address, ...]:
        """What the agent tells now. A busy guest's agent is away for a while: then what it told last still holds."""
        try:
            return self.addresses(agent, machine, again=again)
        except NOT_NOW:
            return last

    def explain(self, machine: Machine, spec: MachineSpec) -> tuple[list[str], Endpoint | None]:
        """Try every address now. Returns a line for each, tried or not, and the winner."""
        addresses: tuple[Address, ...] = machine.facts.addresses
        lines: list[str] = []
        try:
            view = self._view(machine, spec)
            addresses = addresses if view is None else self.addresses(view, machine)
        except AgentSilent as error:
            lines.append(f"the guest agent is silent ({error.message}); these are the last known addresses")
        choice = self.choice(machine, spec, addresses)
        keys = machine.facts.shown_keys
        winner = None
        try:
            result = self.race(choice, keys)
            lines += [attempt.explain() for attempt in result.attempts]
            winner = result.winner.candidate.endpoint
        except NoEndpoint as error:
            lines += error.attempts
        return [*lines, *(_explain(left) for left in choice.left_out)], winner

    def find_way(self, spec: MachineSpec) -> Endpoint | None:
        """Where the machine is that leads to this one (`endpoint.through`), if we know it."""
        return self._ways.find(spec)

    # For programs that are not ours: ssh, scp, Nix.

    def access(self, machine: Machine, spec: MachineSpec) -> Access:
        """The installed system, or the rescue system, for other programs, with the host key pinned in our own file."""
        keys = machine.facts.shown_keys
        endpoint = machine.facts.endpoint
        if endpoint is None or not self.answers(endpoint, keys):
            endpoint = self.meet_system(machine, spec).endpoint
        assert endpoint is not None
        return self.access_at(endpoint, machine, spec)

    def access_at(self, endpoint: Endpoint, machine: Machine, spec: MachineSpec) -> Access:
        """The same for an endpoint that is believed. Nothing is asked of the network."""
        keys = machine.facts.shown_keys
        self._keys.client_key()
        own = expanded(spec.ssh.identity_file) if spec.ssh.identity_file else self._keys.client_key_file
        return self._access(machine, endpoint, keys, own, spec.ssh.options)

    def installer_access(self, machine: Machine, spec: MachineSpec) -> Access:
        entry = self._entry(machine, spec)
        return self._access(machine, entry.endpoint, entry.host_keys, entry.identity, {})

    def _access(
        self,
        machine: Machine,
        endpoint: Endpoint,
        keys: Sequence[str],
        identity: Path,
        options: object,
    ) -> Access:
        alias = f"{machine.name}.{machine.deployment}"
        known = self._directory / "known_hosts" / machine.name
        host = KnownHost(tuple(keys), alias, ((endpoint.host, endpoint.port),))
        write_known_hosts(known, {machine.name: host})
        access = Access(endpoint, known, identity, alias, dict(options) if isinstance(options, dict) else {})
        if not endpoint.jump:
            return access
        config = self._directory / "ssh_config" / machine.name
        ensure_private_directory(config.parent)
        # Said outright: ssh would look in the home of the password database, and our own connections in $HOME.
        files = [expanded(file) for file in USER_FILES]
        replace_file(config, config_text(access, files, self._ways.hops(endpoint.jump)))
        return replace(access, config=config)


def _wanted(machine: Machine, spec: MachineSpec) -> DeclaredDisks:
    return [(disk, disk_serial(machine.facts.serial_base, disk)) for disk in spec.disks]


def _no_endpoint(machine: Machine, vigil: Vigil, error: NoEndpoint, choice: Choice) -> NoEndpoint:
    return NoEndpoint(
        f"{machine.name}: no address answered as this machine within {vigil.waited:.0f} s",
        attempts=[*error.attempts, *(_explain(left) for left in choice.left_out)],
        hint="is there a route from here to one of these networks, or a jump host (`endpoint.jump`)?",
    )


def _waiting_for(reached: Sequence[Endpoint], *, booting: bool) -> str:
    if reached:
        hosts = " and ".join(dict.fromkeys(endpoint.host for endpoint in reached))
        return f"{hosts} takes connections, and is slow to prove that it is this machine"
    doing = "; its system is still starting" if booting else ""
    return f"waiting for an address that answers as this machine{doing}"


def _explain(left: LeftOut) -> str:
    return f"{left.address}{f' ({left.interface})' if left.interface else ''}: {left.reason}"
