"""The description: evaluated by Nix, parsed by the spec."""

from dataclasses import dataclass

from nixops_proxmox import paths
from nixops_proxmox.nixeval.builder import Systems
from nixops_proxmox.nixeval.evaluate import evaluate_network
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix, get_nix
from nixops_proxmox.spec import NetworkSpec, parse_network
from nixops_proxmox.wiring.options import Options
from nixops_proxmox.wiring.parts import Parts


@dataclass(frozen=True)
class Description:
    network: NetworkSpec
    systems: Systems
    nix: Nix


def describe(options: Options, parts: Parts) -> Description:
    """Evaluate and parse; the systems are built when the first of them is asked for."""
    assert options.source is not None
    nix, run = get_nix(), ProcessRunner()
    source = options.source
    evaluated = evaluate_network(nix, paths.nix_dir() / "eval.nix", source, run=run)
    network = parse_network(options.deployment, evaluated.data)
    if options.profile:
        machines = tuple(m.model_copy(update={"profile": options.profile}) for m in network.machines)
        network = network.model_copy(update={"machines": machines})
    systems = Systems(nix, evaluated.toplevels, roots=parts.roots, run=run, tell=parts.tell_building)
    return Description(network, systems, nix)
