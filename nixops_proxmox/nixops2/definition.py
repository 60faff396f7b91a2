"""From what NixOps evaluated to our description of a machine."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.errors import SpecError
from nixops_proxmox.nixops2.described import DEFAULT, installed_by_nixops, plain
from nixops_proxmox.pve.wire.networks import choose_profile
from nixops_proxmox.spec import MachineSpec, VolumeSpec, parse_machine, parse_volume


def spec_of(name: str, proxmox: Mapping[str, Any]) -> MachineSpec:
    """Raises SpecError. What it takes from other resources is told by the network, which is read later."""
    spec = installed_by_nixops(parse_machine(name, {"proxmox": plain(proxmox)}, alone=False))
    usual = choose_profile() if spec.profile == DEFAULT else ""
    return spec.model_copy(update={"profile": usual}) if usual else spec


def volume_spec_of(name: str, config: Mapping[str, Any]) -> VolumeSpec:
    """Raises SpecError. `config`: the resource's options, and NixOps's own."""
    known = {key: config[key] for key in VolumeSpec.model_fields if key in config and config[key] is not None}
    spec = parse_volume(name, plain({key: value for key, value in known.items() if key != "name"}))
    if spec.is_container:
        raise SpecError("NixOps 2 makes no containers: expected vm here", path=f"resources.volumes.{name}.kind")
    usual = choose_profile() if spec.profile == DEFAULT else ""
    return spec.model_copy(update={"profile": usual}) if usual else spec
