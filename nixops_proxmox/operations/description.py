"""The description: evaluated by Nix and parsed by the spec, or handed over by a door that has its own."""

import json
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from nixops_proxmox import paths
from nixops_proxmox.compose import NothingToBuild, Parts
from nixops_proxmox.errors import ConfigError, EvaluationFailed
from nixops_proxmox.kinds.machine.ports import Builder
from nixops_proxmox.kinds.registry import find_used
from nixops_proxmox.nixeval.builder import ImageBuilds, Systems, WantedSystems
from nixops_proxmox.nixeval.evaluate import NetworkSource
from nixops_proxmox.nixeval.evaluations import Evaluations, evaluate_fleet
from nixops_proxmox.nixeval.memory import find_bounds
from nixops_proxmox.nixeval.places import find_places
from nixops_proxmox.nixeval.runner import ProcessRunner, Tell
from nixops_proxmox.nixeval.tools import Nix, get_nix
from nixops_proxmox.spec import MachineSpec, NetworkSpec, parse_network
from nixops_proxmox.spec.machine import InstallMethod, InstallSource

log = logging.getLogger(__name__)

NO_KINDS = (
    "volumes",
    "macPools",
    "macSchemes",
    "tenants",
)  # the options below `resources` that are no kinds of four functions


Taken = Mapping[str, Mapping[str, Mapping[str, str]]]  # by machine and slot


@dataclass(frozen=True)
class Description:
    """What is wanted. Without `systems` nothing is built, copied or activated."""

    network: NetworkSpec
    nix: Nix | None = None
    systems: WantedSystems | None = None
    images: ImageBuilds | None = None  # None: nothing builds images
    warnings: tuple[str, ...] = ()  # what Nix said while it evaluated
    source: NetworkSource | None = None
    taken: Taken = field(default_factory=dict)  # what the systems were told of lists of MACs
    again: Callable[[Taken], "Description"] | None = None  # evaluates once more
    evaluations: Evaluations | None = None

    def knowing(self, taken: Taken) -> "Description":
        """The same with systems that know what their machines have taken from lists of MACs."""
        if self.again is None or all(self.taken.get(name) == one for name, one in taken.items()):
            return self
        return self.again({**self.taken, **taken})

    def find_places(self, name: str) -> Mapping[str, str]:
        """Where a machine's options are said, by their names. Empty where Nix does not tell, for it only helps."""
        if self.nix is None or self.source is None:
            return {}
        try:
            return find_places(self.nix, paths.nix_dir() / "eval.nix", self.source, name, run=ProcessRunner())
        except EvaluationFailed:
            return {}

    @property
    def base(self) -> Path:
        """What relative paths in it are relative to."""
        file = None if self.source is None else self.source.file
        return Path.cwd() if file is None else file if file.is_dir() else file.parent

    def builder(self, parts: Parts) -> Builder:
        if self.nix is None or self.systems is None:
            return NothingToBuild()
        return parts.builder(self.nix, self.systems)

    def changing(self, names: Sequence[str], have: Mapping[str, str]) -> list[str]:
        """The systems that must be built, by machine: those of machines that `have` another one."""
        if not isinstance(self.systems, Systems):
            return []
        self.evaluate(names)
        paths = {name: self._path(self.systems, name) for name in names}
        return [name for name, path in paths.items() if path and path != have.get(name, "")]

    def _path(self, systems: Systems, name: str) -> str:
        """Empty for a machine whose system cannot be evaluated: that is told when something is done to it."""
        try:
            return systems.path(name)
        except EvaluationFailed:
            return ""

    def evaluate(self, names: Sequence[str]) -> None:
        """The systems of these machines will be asked for: they are evaluated together."""
        if self.evaluations is not None:
            self.evaluations.ensure(names)

    def expect(self, names: Sequence[str]) -> None:
        """Only these systems will be needed."""
        if isinstance(self.systems, Systems):
            self.systems.expect(names)


@dataclass(frozen=True)
class GivenSystems:
    """Systems that are in the store already, by machine."""

    paths: Mapping[str, str]

    def path(self, name: str) -> str:
        return self.paths.get(name, "")

    def find_derivation(self, name: str) -> str:
        del name
        return ""

    def is_built(self, name: str) -> bool:
        del name
        return True

    def get(self, name: str) -> str:
        return self.paths.get(name, "")


def describe(  # noqa: PLR0913 -- what an evaluation depends on
    deployment: str,
    source: NetworkSource,
    *,
    profile: str,
    client_key: str,
    roots: Path,
    tell: Tell,
    taken: Taken | None = None,
    serials: Mapping[str, str] = MappingProxyType({}),
    build_on: str = "",
    adopted: Collection[str] = (),
) -> Description:
    """Evaluate and parse. The systems let `client_key` in, and are built when the first of them is asked for. `taken`:
    what their machines have taken from lists of MACs. `serials`: what the serials of recorded machines' disks follow
    from. `profile`, `build_on`: what counts instead of every machine's own. Empty: nothing. `adopted`: machines that
    have a system of somebody else, so that none need be described."""
    source = replace(source, serials=json.dumps(dict(serials), sort_keys=True) if serials else "")
    override = partial(_overridden, profile, build_on)
    return _describe(deployment, source, override, client_key, roots, tell, adopted, taken or {})


def _overridden(profile: str, build_on: str, network: NetworkSpec) -> NetworkSpec:
    """What the user said for this run stands in for what is described."""
    if build_on:
        built = {m.name: m.deploy.model_copy(update={"build_on": build_on}) for m in network.machines}
        machines = tuple(m.model_copy(update={"deploy": built[m.name]}) for m in network.machines)
        network = network.model_copy(update={"machines": machines})
    if not profile:
        return network
    machines = tuple(m.model_copy(update={"profile": profile}) for m in network.machines)
    volumes = tuple(one.model_copy(update={"profile": profile}) for one in network.volumes)
    resources = tuple(one.moved_to(profile) for one in network.resources)
    return network.model_copy(update={"machines": machines, "volumes": volumes, "resources": resources})


def _describe(
    deployment: str,
    source: NetworkSource,
    override: Callable[[NetworkSpec], NetworkSpec],
    client_key: str,
    roots: Path,
    tell: Tell,
    adopted: Collection[str],
    taken: Taken,
) -> Description:
    again = partial(_describe, deployment, source, override, client_key, roots, tell, adopted)
    nix, run = get_nix(), ProcessRunner()
    models = find_used().models
    keys, options = (*source.client_keys, client_key), (*NO_KINDS, *models)
    told = json.dumps(taken, sort_keys=True) if taken else ""
    past = paths.cache_dir() / "evaluations"
    source = replace(source, deployment=deployment, client_keys=keys, resource_options=options, taken=told, past=past)
    parse = partial(parse_network, deployment, models=models)
    evaluated, evaluations = evaluate_fleet(
        nix,
        paths.nix_dir() / "eval.nix",
        source,
        run=run,
        bounds=find_bounds,
        check=parse,
        tell=tell,
        warn=lambda text: log.warning("%s", text),
        cancel=run.cancelled.set,
    )
    network = override(parse(evaluated.data))
    _refuse_blanks(roots, network)
    systems = Systems(
        nix,
        evaluations.toplevels(),
        roots=roots,
        run=run,
        tell=tell,
        needed={machine.name for machine in network.machines if _needs_system(machine)} - {*adopted},
        cancel=run.cancelled.set,
        elsewhere={machine.name for machine in network.machines if machine.deploy.build_on == "guest"},
    )
    images = ImageBuilds(nix, evaluations.images(), roots=roots, run=run, tell=tell)
    return Description(network, nix, systems, images, evaluated.warnings, source, taken, again, evaluations)


def _needs_system(spec: MachineSpec) -> bool:
    return spec.install.source is InstallSource.ISO and spec.install.method is InstallMethod.CLOSURE


def _refuse_blanks(folder: Path, network: NetworkSpec) -> None:
    """Nix splits NIX_SSHOPTS at blanks. We say so at the start, not when the first system is copied."""
    files = {f"{m.name}.deployment.proxmox.ssh.identityFile": m.ssh.identity_file for m in network.machines}
    for what, path in {"the state's folder": str(folder), **files}.items():
        if path and re.search(r"""[\s'"\\$`]""", path):
            raise ConfigError(
                f"{what} is {path!r}, and Nix cannot give SSH a path with blanks or quotes",
                hint="keep state and keys in a folder whose path has neither",
            )


def given(network: NetworkSpec, systems: Mapping[str, str] | None = None) -> Description:
    """A door's own description. `systems`: store paths by machine, None for a door that activates by its own means."""
    if systems is None:
        return Description(network)
    return Description(network, get_nix(), GivenSystems(systems))
