"""Every field of the description has a reader outside the description's own package: no option is without effect."""

import ast
from pathlib import Path

import pytest

from nixops_proxmox.spec import MacPoolSpec, MacSchemeSpec, VolumeSpec
from nixops_proxmox.spec import machine as models
from nixops_proxmox.spec.cloud_init import CloudInit
from nixops_proxmox.spec.container import ContainerSpec, MountSpec, RootSpec
from nixops_proxmox.spec.deploy import DeploySpec, HealthSpec, HookSpec, HttpCheck, Strategy
from nixops_proxmox.spec.encryption import Encryption, Recovery, Sink, Tang, Unlocking
from nixops_proxmox.spec.firewall import AddressAlias, IpSet, MachineFirewall, SecurityGroup
from nixops_proxmox.spec.ha import HaRuleSpec
from nixops_proxmox.spec.mapping import MappingSpec
from nixops_proxmox.spec.placed_file import PlacedFile
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.resources import OURS
from nixops_proxmox.spec.sent_key import SentKey
from nixops_proxmox.spec.storage import StorageSpec

PACKAGE = Path(models.__file__).parents[1]
OWNERS: dict[type, frozenset[str]] = {  # how code calls a thing of this model: the last word before the field
    models.MachineSpec: frozenset({"spec"}),
    models.Disk: frozenset({"disk"}),
    models.Nic: frozenset({"nic"}),
    models.IpSpec: frozenset({"ip", "ipv4", "ipv6"}),
    models.Cpu: frozenset({"cpu"}),
    models.Efi: frozenset({"efi", "part", "device"}),
    models.Tpm: frozenset({"tpm", "part", "device"}),
    models.InstallSpec: frozenset({"install"}),
    models.EndpointPolicy: frozenset({"policy", "endpoint"}),
    models.Ssh: frozenset({"ssh"}),
    DeploySpec: frozenset({"deploy"}),
    HealthSpec: frozenset({"health"}),
    HttpCheck: frozenset({"check"}),
    Strategy: frozenset({"strategy", "one", "other"}),
    HookSpec: frozenset({"hooks", "spec"}),
    models.Placement: frozenset({"placement"}),
    CloudInit: frozenset({"cloud_init"}),
    ContainerSpec: frozenset({"container"}),
    RootSpec: frozenset({"root"}),
    MountSpec: frozenset({"mount"}),
    Encryption: frozenset({"encryption"}),
    Unlocking: frozenset({"unlock"}),
    Recovery: frozenset({"recovery"}),
    Sink: frozenset({"sink"}),
    Tang: frozenset({"one"}),
    VolumeSpec: frozenset({"spec", "volume"}),
    MacPoolSpec: frozenset({"pool"}),
    ResourceSpec: frozenset({"spec", "self"}),
    **{model: frozenset({"spec", "self"}) for model in OURS.values()},
}
NO_EFFECT = ("spec", "lab", "pve/permissions.py", "pve/doctor.py")  # who only looks makes nothing of an option
IN_NIX = {  # what only the guest's NixOS configuration reads: nix/guest.nix
    (models.IpSpec, "gateway"),
    (models.IpSpec, "prefix"),
}
IN_SPEC = {
    # What the MAC follows from, which is filled in before all else reads it: spec/derived.py
    (models.Nic, "mac_role"),
    (models.Nic, "mac_number"),
    # What becomes a part of `extra`: spec/cloud_init.py
    *((CloudInit, field) for field in CloudInit.model_fields if field != "storage"),
    # Names that `pve_name` says, and a word for the description's own check: spec/firewall.py
    (IpSet, "set"),
    (AddressAlias, "alias"),
    (SecurityGroup, "group"),
    (MachineFirewall, "sealed"),
    (HaRuleSpec, "rule"),  # as `ruleid`
    (MappingSpec, "mapping"),  # as `mappingid`
    (StorageSpec, "storage"),  # as `storage_id`
}


def reads() -> set[tuple[str, str]]:
    """(owner, attribute) of every `owner.attribute` or `….owner.attribute` in our code."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if any(path.is_relative_to(PACKAGE / part) for part in NO_EFFECT):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value
                name = (
                    owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
                )
                found.add((name, node.attr))
    return found


@pytest.fixture(scope="module")
def read() -> set[tuple[str, str]]:
    return reads()


@pytest.mark.parametrize("model", OWNERS, ids=lambda model: model.__name__)
def test_every_field_has_a_reader(model: type, read: set[tuple[str, str]]) -> None:
    fields = [name for name in model.model_fields if (model, name) not in IN_NIX | IN_SPEC]  # type: ignore[attr-defined]
    unread = [field for field in fields if not any((owner, field) in read for owner in OWNERS[model])]
    assert unread == []


def test_no_model_is_forgotten() -> None:
    found = {item for item in vars(models).values() if isinstance(item, type) and hasattr(item, "model_fields")}
    assert {item for item in found if item.model_fields} - set(OWNERS) == {
        models.NetworkSpec,
        MacSchemeSpec,
        SentKey,
        PlacedFile,
    }
