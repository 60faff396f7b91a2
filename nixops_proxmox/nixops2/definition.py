"""From what NixOps evaluated to our description of a machine."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.operations.networks import choose_profile
from nixops_proxmox.spec import InstallMethod, MachineSpec, parse_machine

DEFAULT = "default"


def spec_of(name: str, proxmox: Mapping[str, Any]) -> MachineSpec:
    """Raises SpecError. NixOps builds and activates, so we install no closure."""
    spec = parse_machine(name, {"proxmox": plain(proxmox)})
    changes: dict[str, Any] = {"install": spec.install.model_copy(update={"method": InstallMethod.CONFIGURATION})}
    if spec.profile == DEFAULT and (usual := choose_profile()):
        changes["profile"] = usual
    return spec.model_copy(update=changes)


def plain(value: Any) -> Any:
    """NixOps's read-only values as dicts and lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
