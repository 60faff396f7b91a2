"""The description: evaluated by Nix and parsed by the spec, or handed over by a door that has its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nixops_proxmox import paths
from nixops_proxmox.lifecycle.ports import Builder
from nixops_proxmox.nixeval.builder import Systems, Wanted
from nixops_proxmox.nixeval.evaluate import Source, evaluate_network
from nixops_proxmox.nixeval.runner import ProcessRunner, Tell
from nixops_proxmox.nixeval.tools import Nix, get_nix
from nixops_proxmox.spec import NetworkSpec, parse_network
from nixops_proxmox.wiring.parts import NothingToBuild, Parts


@dataclass(frozen=True)
class Description:
    """What is wanted; without `systems` nothing is built, copied or activated."""

    network: NetworkSpec
    nix: Nix | None = None
    systems: Wanted | None = None

    def builder(self, parts: Parts) -> Builder:
        if self.nix is None or self.systems is None:
            return NothingToBuild()
        return parts.builder(self.nix, self.systems)


@dataclass(frozen=True)
class GivenSystems:
    """Systems that are in the store already, by machine."""

    paths: Mapping[str, str]

    def get(self, name: str) -> str:
        return self.paths.get(name, "")


def describe(deployment: str, source: Source, *, profile: str, client_key: str, roots: Path, tell: Tell) -> Description:
    """Evaluate and parse; the systems are built when the first of them is asked for, and let `client_key` in."""
    nix, run = get_nix(), ProcessRunner()
    source = replace(source, deployment=deployment, client_keys=(*source.client_keys, client_key))
    evaluated = evaluate_network(nix, paths.nix_dir() / "eval.nix", source, run=run)
    network = parse_network(deployment, evaluated.data)
    if profile:
        machines = tuple(m.model_copy(update={"profile": profile}) for m in network.machines)
        network = network.model_copy(update={"machines": machines})
    return Description(network, nix, Systems(nix, evaluated.toplevels, roots=roots, run=run, tell=tell))


def given(network: NetworkSpec, systems: Mapping[str, str] | None = None) -> Description:
    """A door's own description; `systems`: store paths by machine, None for a door that activates by its own means."""
    if systems is None:
        return Description(network)
    return Description(network, get_nix(), GivenSystems(systems))
