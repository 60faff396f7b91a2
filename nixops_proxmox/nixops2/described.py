"""The network as NixOps has evaluated it, read whole by the same parser as the command line's."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.errors import SpecError
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.kinds.registry import find_described
from nixops_proxmox.pve.wire.networks import choose_profile
from nixops_proxmox.spec import InstallMethod, MachineSpec, NetworkSpec, parse_network
from nixops_proxmox.spec.containers import refuse_container
from nixops_proxmox.spec.names import options_of

DEFAULT = "default"


@dataclass(frozen=True)
class Defined:
    """What one definition says. `option`: below `resources`; empty: it is a machine."""

    option: str
    inputs: Mapping[str, Any]


def said_of(option: str, model: Any, config: Mapping[str, Any]) -> Defined:
    """`config`: the resource's options, and NixOps's own."""
    known = {key: plain(config[key]) for key in options_of(model) if key in config and config[key] is not None}
    return Defined(option, known)


def plain(value: Any) -> Any:
    """NixOps's read-only values as dicts and lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def read_network(name: str, definitions: Mapping[str, Any]) -> NetworkSpec:
    """SpecError with all mistakes. NixOps builds and activates, so we install no closure."""
    data: dict[str, dict[str, Any]] = {"machines": {}, "resources": {}}
    usual = choose_profile()
    foreign = []
    for key, one in definitions.items():
        said = getattr(one, "said", None)
        if not isinstance(said, Defined):
            foreign.append(key)
            continue
        inputs = dict(said.inputs)
        if usual and inputs.get("profile") == DEFAULT:
            inputs["profile"] = usual
        if said.option:
            data["resources"].setdefault(said.option, {})[key] = inputs
        else:
            data["machines"][key] = {"proxmox": inputs}
    models = {option: entry.described.spec for option, entry in find_described().items() if entry.described}
    network = parse_network(name, data, models)
    machines = tuple(installed_by_nixops(machine) for machine in network.machines)
    return network.model_copy(update={"machines": machines, "foreign": tuple(foreign)})


def installed_by_nixops(spec: MachineSpec) -> MachineSpec:
    """SpecError for what NixOps 2 has no way to make: a container, or a disk with a passphrase of its own."""
    refuse_container(spec)
    if spec.encryption is not None:
        raise SpecError(
            "needs the system at the installation, and NixOps builds it afterwards",
            path=f"{spec.name}.deployment.proxmox.encryption",
            hint="deploy the network with the command line, which reads it as it is",
        )
    method = spec.install.model_copy(update={"method": InstallMethod.CONFIGURATION})
    return spec.model_copy(update={"install": method})


def find_states(resources: Iterable[Any], refs: Iterable[Ref]) -> Iterator[Any]:
    """Those of NixOps's resources that stand for these things."""
    wanted = {(ref.kind, ref.name) for ref in refs}
    for one in resources:
        kind = MACHINE if one.get_type() == "proxmox" else getattr(one, "kind", "")
        if (kind, one.name) in wanted:
            yield one
