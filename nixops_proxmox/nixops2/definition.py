"""From what NixOps evaluated to our description of a machine."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.operations.networks import choose_profile
from nixops_proxmox.spec import InstallMethod, MachineSpec, VolumeSpec, parse_machine, parse_volume

DEFAULT = "default"


def spec_of(name: str, proxmox: Mapping[str, Any]) -> MachineSpec:
    """Raises SpecError. NixOps builds and activates, so we install no closure."""
    spec = parse_machine(name, {"proxmox": plain(proxmox)})
    changes: dict[str, Any] = {"install": spec.install.model_copy(update={"method": InstallMethod.CONFIGURATION})}
    if spec.profile == DEFAULT and (usual := choose_profile()):
        changes["profile"] = usual
    return spec.model_copy(update=changes)


def volume_spec_of(name: str, config: Mapping[str, Any]) -> VolumeSpec:
    """Raises SpecError. `config`: the resource's options, and NixOps's own."""
    known = {key: config[key] for key in VolumeSpec.model_fields if key in config and config[key] is not None}
    spec = parse_volume(name, plain({key: value for key, value in known.items() if key != "name"}))
    usual = choose_profile() if spec.profile == DEFAULT else ""
    return spec.model_copy(update={"profile": usual}) if usual else spec


def plain(value: Any) -> Any:
    """NixOps's read-only values as dicts and lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
