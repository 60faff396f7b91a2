"""The parameters of calls: what PVE's own schemas allow, with our mark in them."""

import re
from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.pve.vm.boot import enter_calls, leave_calls
from nixops_proxmox.pve.vm.diff import update
from nixops_proxmox.pve.vm.identity import (
    Identity,
    Mark,
    find_mark,
    identity_of,
    is_ours,
    notes_with_mark,
    notes_without_mark,
)
from nixops_proxmox.pve.vm.requests import clone_params, create_params, dns_name
from nixops_proxmox.pve.wire.calls import encode_params
from nixops_proxmox.pve.wire.properties import parse_nic, parse_properties
from nixops_proxmox.spec import InstallSpec, MachineSpec
from nixops_proxmox.spec.serials import disk_serial
from tests.pve import reference
from tests.pve.specs import ISO, UUID, full_spec, machine, params_of, spec, vm_of

IDENTITY = identity_of(machine())
IMAGE = spec(install=InstallSpec.model_validate({"from": "image", "image": "local:import/a.qcow2"}))


def test_a_vm_is_created_with_its_mark_and_boots_the_installer() -> None:
    assert create_params(spec(), IDENTITY) == {
        "vmid": 101,
        "ostype": "l26",
        "smbios1": f"uuid={UUID}",
        "name": "web",
        "description": notes_with_mark("", Mark("demo", "web", UUID)),
        "tags": "nixops",
        "memory": 2048,
        "scsihw": "virtio-scsi-single",
        "agent": "1",
        "serial0": "socket",
        "boot": "order=ide2;scsi0",
        "ide2": f"{ISO},media=cdrom",
        "scsi0": f"local-lvm:8,serial={disk_serial(UUID, spec().disks[0])}",
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
    }


def test_everything_that_can_be_said_is_sent() -> None:
    params = create_params(full_spec(pool="lab", extra={"kvm": False}), IDENTITY)
    assert params["efidisk0"] == "local-lvm:1,efitype=4m,pre-enrolled-keys=0"
    assert params["tpmstate0"] == "local-lvm:1,version=v2.0"
    assert params["virtio1"] == "shared:4.5,aio=threads,cache=writeback,serial=DATA-1"
    assert params["net0"] == "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,queues=2,rate=12.5,tag=20"
    assert params["net1"] == "e1000=02:00:00:00:00:01,bridge=vmbr1,trunks=2;5-7"
    assert (params["tags"], params["pool"], params["kvm"]) == ("nixops;prod;web", "lab", False)
    assert str(params["description"]).startswith("the web server\n\nManaged by")


def test_an_image_is_imported_into_the_first_disk() -> None:
    params = create_params(IMAGE, IDENTITY)
    assert str(params["scsi0"]).startswith("local-lvm:0,import-from=local:import/a.qcow2")
    assert params["boot"] == "order=scsi0"
    assert "ide2" not in params


@pytest.mark.parametrize("version", ["7.4", "8.4", "9.0", "9.1"])
@pytest.mark.parametrize("described", [spec(), full_spec(pool="lab"), IMAGE])
def test_all_parameters_are_in_the_schema_of_that_release(version: str, described: MachineSpec) -> None:
    endpoints = reference.load(f"pve-api-schema-{version}.json")["endpoints"]
    check(endpoints, "POST /nodes/{node}/qemu", dict(create_params(described, IDENTITY)))
    check(endpoints, "POST /nodes/{node}/qemu/{vmid}/clone", dict(clone_params(described, IDENTITY, target="pve2")))
    changed = params_of(update(vm_of(spec()), described, IDENTITY))
    check(endpoints, "POST /nodes/{node}/qemu/{vmid}/config", dict(changed))
    for calls in (enter_calls, leave_calls):
        for params in calls(vm_of(spec()), spec()):
            check(endpoints, "PUT /nodes/{node}/qemu/{vmid}/config", params)


def check(endpoints: dict[str, Any], name: str, params: dict[str, Any]) -> None:
    """By the schema's own rules: known keys, enumerations, patterns, lengths, and property strings."""
    schema = endpoints[name]["parameters"]
    for key, value in encode_params(params).items():
        rule = schema.get(key) or schema.get(re.sub(r"\d+$", "[n]", key))
        assert rule is not None, f"{name}: {key} is not in the schema"
        check_value(f"{name}: {key}", rule, str(value), key)


def check_value(where: str, rule: dict[str, Any], value: str, key: str = "") -> None:
    assert "enum" not in rule or value in rule["enum"], f"{where}: {value}"
    pattern = rule.get("pattern", ".*").replace("(?^", "(?")  # as Perl prints its own
    assert re.fullmatch(pattern, value, re.DOTALL), f"{where}: {value}"
    assert len(value) <= rule.get("maxLength", 10**9), where
    if rule.get("type") == "boolean":
        assert value in ("0", "1"), f"{where}: {value}"
    if rule.get("type") == "integer":
        assert rule.get("minimum", -(10**12)) <= int(value) <= int(rule.get("maximum", 10**12)), f"{where}: {value}"
    if isinstance(rule.get("format"), dict):
        grammar = rule["format"]
        default = next((name for name, sub in grammar.items() if sub.get("default_key")), "")
        parsed = parse_nic(value) if key.startswith("net") else parse_properties(value, default)
        for name, part in parsed.items():
            assert name in grammar, f"{where}: {name} is not in {sorted(grammar)}"
            check_value(f"{where}.{name}", grammar[name], part)


def test_our_own_keys_cannot_be_set_behind_our_back() -> None:
    with pytest.raises(SpecError, match=r"web\.deployment\.proxmox\.extra\.smbios1"):
        create_params(spec(extra={}).model_copy(update={"extra": {"smbios1": "uuid=x"}}), IDENTITY)


@pytest.mark.parametrize(
    ("name", "dns"),
    [("web", "web"), ("web_1", "web-1"), ("a.b_c", "a.b-c"), ("_", "machine"), ("ü", "machine"), ("x" * 80, "x" * 63)],
)
def test_names_become_dns_names(name: str, dns: str) -> None:
    assert dns_name(name) == dns


@pytest.mark.parametrize("name", ["web", "a b", "q`uote", "new\nline", "größe", "%41", "x" * 300])
def test_a_mark_survives_any_name_and_the_users_notes(name: str) -> None:
    mark = Mark(name, name, UUID)
    notes = notes_with_mark("first line\nsecond line", mark)
    assert find_mark(notes) == mark
    assert find_mark(notes.replace("\n", "\r\n")) == mark
    assert notes_without_mark(notes) == "first line\nsecond line"
    assert len(notes_with_mark("ü" * 9000, mark).encode()) <= 8192


def test_only_the_uuid_makes_a_vm_ours() -> None:
    notes = notes_with_mark("", Mark("demo", "web", UUID))
    assert is_ours({"smbios1": f"base64=1,uuid={UUID.upper()}"}, UUID)
    assert not is_ours({"smbios1": "uuid=other", "description": notes}, UUID)
    assert not is_ours({"description": notes}, UUID)
    assert not is_ours({"description": notes, "lock": "clone"}, UUID)
    assert not is_ours({}, "")


def test_an_unfinished_clone_is_known_by_its_notes_and_another_clone_of_it_is_not() -> None:
    described = spec(install=InstallSpec.model_validate({"from": "template", "template": "9000"}))
    notes = str(clone_params(described, IDENTITY)["description"])
    assert find_mark(notes) == IDENTITY.mark
    assert is_ours({"smbios1": "uuid=pve-made-this-one", "description": notes}, IDENTITY.uuid)
    assert not is_ours({"smbios1": "uuid=pve-made-this-one", "description": notes}, "another")
    finished = str(create_params(described, IDENTITY)["description"])
    assert not is_ours({"smbios1": "uuid=pve-made-this-one", "description": finished}, IDENTITY.uuid)
    assert notes_without_mark(f"mine\n\n{notes}") == "mine"


def test_a_machine_from_an_image_boots_its_disk_even_if_there_is_an_iso_to_rescue_it() -> None:
    install = {"from": "image", "image": "local:import/nixos.qcow2", "iso": "local:iso/nixos.iso"}
    params = create_params(spec(install=InstallSpec.model_validate(install)), IDENTITY)
    assert params["boot"] == "order=scsi0" and "ide2" not in params
    assert str(params["scsi0"]).startswith("local-lvm:0,import-from=local:import/nixos.qcow2,")


def test_serials_follow_from_uuid_and_slot() -> None:
    first, second = full_spec().disks
    assert re.fullmatch(r"[0-9a-f]{16}", disk_serial(UUID, first))
    assert disk_serial(UUID.upper(), first) == disk_serial(UUID, first) != disk_serial(UUID[:-1] + "6", first)
    assert disk_serial(UUID, second) == "DATA-1"


def test_a_nic_without_a_minted_mac_takes_the_declared_one() -> None:
    identity = Identity(Mark("d", "m", UUID), 101, ())
    assert create_params(full_spec(), identity)["net1"] == "e1000=02:00:00:00:00:01,bridge=vmbr1,trunks=2;5-7"
