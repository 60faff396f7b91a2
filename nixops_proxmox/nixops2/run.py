"""One NixOps deployment in this process: the parts that all of its machines share, whatever thread they are in."""

import atexit
import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nixops_proxmox.compose import NothingToBuild, Parts
from nixops_proxmox.kinds.machine.shape import Permissions, World
from nixops_proxmox.kinds.registry import find_described
from nixops_proxmox.messages.amounts import duration, one_line
from nixops_proxmox.model import Endpoint, Machine
from nixops_proxmox.nixops2.book import Book
from nixops_proxmox.nixops2.described import read_network
from nixops_proxmox.nixops2.holding import holding_of
from nixops_proxmox.nixops2.network import NixopsRecord
from nixops_proxmox.nixops2.planning import Planning
from nixops_proxmox.nixops2.session import session_of
from nixops_proxmox.nixops2.spelling import spelled
from nixops_proxmox.nixops2.things import things_of
from nixops_proxmox.nixops2.volumes import NixopsVolumes, described_volumes, kept_volumes
from nixops_proxmox.operations.addressing import Addressing
from nixops_proxmox.operations.keeping import Keeper
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.recorded import where_it_is
from nixops_proxmox.operations.resources import Outside, ResourceKeeper
from nixops_proxmox.options import Options, said_agreed
from nixops_proxmox.spec import MachineSpec, NetworkSpec
from nixops_proxmox.spec.serials import serials_of
from nixops_proxmox.texts import Formatter, shown

HARDWARE_AS_IT_IS = Permissions(adjust=False)  # for verbs that leave the hardware as it is
SLOW = 5.0  # seconds after which the end of a step is worth a line


class Run:
    """Keys are kept under the deployment's UUID, because NixOps's names may change."""

    def __init__(
        self,
        depl: Any,
        title: str,
        logger: Callable[[str], Any],
        machines: Callable[[], Iterable[Machine]] = tuple,
    ) -> None:
        """`title`: for people, in the VMs' notes. `logger`: NixOps's own, by machine. `machines`: all of them."""
        self.title = title
        self._machines = machines
        self._books: dict[str, Book] = {}
        self._lock = threading.RLock()
        self.name = name_of(depl.uuid)
        self._depl, self._reporter = depl, NixopsReporter(logger)
        self.parts = Parts(Options(deployment=self.name, reporter=self._reporter, agreed=said_agreed(os.environ)), self)
        self.things = things_of(depl, session_of(depl._statefile))
        self._network: tuple[object, NetworkSpec | None] = (None, None)
        self.volume_record = NixopsVolumes(title, depl.uuid, lambda: kept_volumes(depl))
        self._keeper: tuple[object, Keeper | None] = (None, None)
        self._resources: tuple[object, ResourceKeeper | None] = (None, None)
        self._stack = ExitStack()
        self._stack.enter_context(self.parts.right.held(holding_of(depl._statefile).prove))
        atexit.register(self.parts.__exit__, None, None, None)

    # What the parts ask: satisfies `state.record.Winners`.

    def machines(self) -> list[Machine]:
        return list(self._machines())

    def find_winner(self, machine: str, site: str) -> Endpoint | None:
        book = self._books.get(machine)
        return None if book is None else book.record_now.winners.get(site)

    def remember_winner(self, machine: str, site: str, endpoint: Endpoint) -> None:
        book = self._books.get(machine)
        if book is not None:
            book.remember_winner(site, endpoint)

    # What the machines ask.

    def join(self, name: str, book: Book) -> None:
        with self._lock:
            self._books[name] = book

    def world(self, spec: MachineSpec, permissions: Permissions = HARDWARE_AS_IT_IS) -> World:
        nothing = NothingToBuild()  # NixOps builds, copies and activates
        recorded = partial(self._recorded_vmids, spec.profile)
        world = self.parts.world(spec, permissions, nothing, self.volumes, recorded)
        serials = serials_of(self._depl.uuid, spec.name)
        return replace(world, before_boot=lambda name: self.resources.follow(name), serials_from=serials)

    # What there is beside machines.

    @property
    def network(self) -> NetworkSpec | None:
        """As NixOps has evaluated it last. SpecError with all mistakes. None: it has not."""
        definitions = self._depl.definitions
        with self._lock:
            if definitions and self._network[0] is not definitions:
                self._network = (definitions, read_network(self._depl.uuid, definitions))
            return self._network[1] if definitions else None

    def machine(self, name: str) -> MachineSpec:
        """The machine with what it takes from other resources, and from lists of MACs."""
        network = self.network
        assert network is not None
        return self.addresses.filled(next(spec for spec in network.machines if spec.name == name))

    @property
    def record(self) -> NixopsRecord:
        kept: dict[str, Any] = {n: one for n, one in self._depl.resources.items() if isinstance(one, Planning)}
        return NixopsRecord(self.title, kept, nullcontext, volumes=self.volume_record, things=self.things)

    @property
    def addresses(self) -> Addressing:
        parts = self.parts
        return Addressing(self.record, self.network, Path.cwd(), parts.hypervisor, parts.clock)

    @property
    def resources(self) -> ResourceKeeper:
        parts, network = self.parts, self.network
        with self._lock:
            known = (network, tuple(sorted(self._depl.resources)))
            if self._resources[1] is None or self._resources[0] != known:
                kinds = {entry.name: entry for entry in find_described().values()}
                made = ResourceKeeper(
                    self.record,
                    network,
                    Outside(
                        parts.hypervisor,
                        parts.clock,
                        self._reporter,
                        lambda: self.addresses.nics(),
                        parts.router,
                        parts.care.refuse,
                    ),
                    kinds,
                )
                self._resources = (known, made)
            keeper = self._resources[1]
        assert keeper is not None
        return keeper

    @property
    def volumes(self) -> Keeper:
        """One for all machines. There is another one when NixOps has evaluated other volumes, or has got new ones."""
        definitions = self._depl.definitions
        specs = described_volumes(definitions).values() if definitions else self.volume_record.specs()
        known = (tuple(specs), tuple(sorted(kept_volumes(self._depl))))
        with self._lock:
            if self._keeper[1] is None or self._keeper[0] != known:
                parts = self.parts
                kept = Keeper(self.volume_record, known[0], parts.guests_of, parts.clock, self._reporter)
                self._keeper = (known, kept)
            keeper = self._keeper[1]
        assert keeper is not None
        return keeper

    def _recorded_vmids(self, profile: str) -> list[int]:
        return [one.facts.vmid for one in self._machines() if one.facts.profile == profile]

    def pursuit(
        self, name: str, spec: MachineSpec, book: Book, permissions: Permissions = HARDWARE_AS_IT_IS
    ) -> Pursuit:
        self.join(name, book)
        machine = book.record_now.machine(self.title, name)
        if not permissions.adjust:
            spec = where_it_is(spec, machine.facts)
        return Pursuit(
            machine,
            self.world(spec, permissions),
            book,
            begin=lambda: self.parts.care.refuse(name, spec.profile),
            leave=lambda: self.parts.guests.leave(name),
        )


def name_of(uuid: str) -> str:
    """The folder of a NixOps deployment's keys."""
    return f"nixops-{uuid}"


def get_run(
    depl: Any, title: str, logger: Callable[[str], Any], machines: Callable[[], Iterable[Machine]] = tuple
) -> Run:
    """The run of a deployment, which begins when it is first asked for."""
    return session_of(depl._statefile).run(depl.uuid, lambda: Run(depl, title, logger, machines))


def run_of(depl: Any, title: str) -> Run:
    """The run of a deployment, for any of its resources."""
    resources = depl.resources

    def machines() -> list[Machine]:
        return [one.record.machine(title, name) for name, one in resources.items() if isinstance(one, Planning)]

    def logger(name: str) -> Any:
        """`name`: of a machine or a volume; of another thing, its kind and its name. Not all are NixOps's own."""
        one = resources.get(name) or resources.get(name.rpartition(" ")[2])
        return depl.logger if one is None else one.logger

    return get_run(depl, title, logger, machines)


def log_to_stderr() -> None:
    """Print our warnings, cleaned, because NixOps sets up no logging."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("warning: %(message)s"))
    logger = logging.getLogger("nixops_proxmox")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.WARNING)


class NixopsReporter:
    """Progress in NixOps's log. Satisfies `kinds.machine.ports.Reporter`."""

    def __init__(self, logger: Callable[[str], Any]) -> None:
        self._logger = logger
        self._told: dict[str, str] = {}

    def step(self, machine: Machine, label: str, to: str) -> None:
        self._logger(machine.name).log(f"{label.lower()} ({machine.phase} → {to})...")

    def detail(self, machine: Machine, text: str) -> None:
        line = spelled(one_line(text))
        if line and self._told.get(machine.name) != line:
            self._told[machine.name] = line
            self._logger(machine.name).log(f"  {line}")

    def done(self, machine: Machine, label: str, seconds: float) -> None:
        if seconds >= SLOW:
            self._logger(machine.name).log(f"{label.lower()}: done in {duration(seconds)}")

    def warn(self, machine: Machine, text: str) -> None:
        self._logger(machine.name).warn(shown(spelled(text)))
