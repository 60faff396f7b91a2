"""What networks describe under `resources`, as NixOps 4 has it: which kinds there are, and what cannot become what."""

from collections.abc import Mapping

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.errors import SpecError
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.kinds.registry import Entry, find_described, find_resource_types
from nixops_proxmox.kinds.volume.facts import NAME as VOLUME
from nixops_proxmox.nixops4.inputs import VmInputs
from nixops_proxmox.operations import Deployed
from nixops_proxmox.spec import MachineSpec, NetworkSpec
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spelling import Verb, command


def how_to_remove_thing(ref: Ref) -> str:
    return command(Verb.DESTROY, "--resource", f"{ref.kind}/{ref.name}")


def refuse_another(deployed: Deployed, ref: Ref, spec: ResourceSpec, kind: str) -> None:
    """SpecError for one that is recorded as another thing: to make that, this one would have to be removed first, and
    NixOps 4 shows no plan that says so."""
    changes = deployed.resources.identity_changes(ref)
    if changes:
        raise SpecError(
            f"it exists as another thing ({'; '.join(changes)}), and it cannot become this one",
            path=f"{kind}.{spec.name}",
            hint="declare a new resource under another name, or remove this one first: " + how_to_remove_thing(ref),
        )


def refuse_relative(inputs: VmInputs) -> None:
    """We are started in any folder, and a path of Nix is in the store, where we cannot write."""
    for name, pool in inputs.macPools.items():
        file = pool.get("file") if isinstance(pool, Mapping) else None
        if isinstance(file, str) and (not file.startswith(("/", "~")) or file.startswith("/nix/store/")):
            raise SpecError(
                f"expected the absolute path of a file that we can write, not {file}",
                path=f"vm.macPools.{name}.file",
                hint='write it as a string: file = "/home/me/campus/machines.yml";',
            )


def kinds() -> dict[str, Entry]:
    return {entry.name: entry for entry in find_described().values()}


def thing_of(kind: str) -> str:
    """The kind of the thing that stands for a resource of this type. Empty: it is not one of those."""
    types = find_resource_types()
    return types[kind].thing if kind in types else ""


def word_for(kind: str) -> str:
    return VOLUME if kind == VOLUME else thing_of(kind).replace("-", " ") or MACHINE


def machine_in(network: NetworkSpec, name: str) -> MachineSpec:
    return next(spec for spec in network.machines if spec.name == name)


def spec_in(network: NetworkSpec, ref: Ref) -> ResourceSpec | None:
    return next((spec for spec in network.resources if Ref(spec.kind, spec.name) == ref), None)


def thing_in(network: NetworkSpec, ref: Ref) -> ResourceSpec:
    found = spec_in(network, ref)
    if found is None:
        raise SpecError(f"the description of the {ref} cannot be read", hint="; ".join(network.warnings))
    return found
