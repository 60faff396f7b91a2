"""The lab's own tables against PVE's published ones, release by release; and the property strings."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.lab.call import Operation
from nixops_proxmox.lab.config import format_disk, format_nic, format_size, gib_to_bytes, parse_disk, parse_nic
from nixops_proxmox.lab.release import get_release
from nixops_proxmox.lab.routes import ALL
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.schema.check import check_properties
from nixops_proxmox.lab.schema.types import Param
from nixops_proxmox.lab.schema.vm import NET, SCSI

SCHEMAS = Path(__file__).parents[2] / "../shared/facts"
VERSIONS = ("7.4", "8.4", "9.0", "9.1")
OF_CONTAINERS = {"mp": (0, 255), "dev": (0, 255)}  # pve-container's own
needs_schemas = pytest.mark.skipif(not SCHEMAS.exists(), reason="the published schemas are not part of the project")


def operations(version: str) -> list[Operation]:
    number = get_release(version).number
    return [one for routes in ALL for one in routes.operations if one.since <= number <= one.until]


def published(version: str) -> tuple[dict[str, Any], dict[str, Any]]:
    schema = json.loads((SCHEMAS / f"pve-api-schema-{version}.json").read_text())
    return schema["endpoints"], schema["indexRanges"]


def generic(path: str) -> str:
    """Placeholders by position: PVE calls some of them otherwise."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


@needs_schemas
@pytest.mark.parametrize("version", VERSIONS)
def test_every_operation_of_the_lab_is_one_of_pve(version: str) -> None:
    endpoints, _ = published(version)
    known = {f"{key.split(' ', 1)[0]} {generic(key.split(' ', 1)[1])}" for key in endpoints}
    odd = {"GET /", "POST /nodes/{}/qemu/{}/agent/exec"}
    unknown = [
        f"{one.method} {one.path}"
        for one in operations(version)
        if f"{one.method} {generic(one.path)}" not in known | odd
    ]
    assert not unknown


@needs_schemas
@pytest.mark.parametrize("version", VERSIONS)
def test_no_parameter_is_taken_that_pve_would_refuse(version: str) -> None:
    endpoints, ranges = published(version)
    by_path = {f"{key.split(' ', 1)[0]} {generic(key.split(' ', 1)[1])}": value for key, value in endpoints.items()}
    number = get_release(version).number
    odd = []
    for operation in operations(version):
        entry = by_path.get(f"{operation.method} {generic(operation.path)}")
        if entry is None or operation.reads_body:
            continue
        theirs = expanded(entry.get("parameters") or {}, ranges)
        for name, param in operation.params.items():
            if param.exists_in(number) and name not in theirs:
                odd.append(f"{operation.method} {operation.path}: {name}")
    assert not odd


@needs_schemas
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", ["POST /nodes/{node}/qemu", "PUT /nodes/{node}/qemu/{vmid}/config"])
def test_configuration_keys_have_pves_types_limits_and_values(version: str, path: str) -> None:
    endpoints, ranges = published(version)
    theirs = expanded(endpoints[path]["parameters"], ranges)
    mine = next(one for one in operations(version) if f"{one.method} {one.path}" == path).table(
        get_release(version).number
    )
    wrong = []
    for name, schema in theirs.items():
        param = mine.get(name)
        if param is None or not param.exists_in(get_release(version).number):
            if name not in OUT_OF_REACH and not name.startswith("virtiofs"):
                wrong.append(f"{name} is missing")
            continue
        wrong += [f"{name}: {text}" for text in unlike(param, schema)]
    assert not wrong, "\n".join(wrong)


# Confidential computing, and what only the daemons themselves pass.
OUT_OF_REACH = {"intel-tdx", "import-working-storage"}


def unlike(param: Param, schema: Mapping[str, Any]) -> list[str]:
    found = []
    if param.kind != schema["type"]:
        found.append(f"type {param.kind}, not {schema['type']}")
    if param.format == "pve-vmid":  # 7.4 says 1, and means the format's 100
        return found
    for mine, theirs in ((param.minimum, "minimum"), (param.maximum, "maximum"), (param.max_length, "maxLength")):
        if mine is not None and theirs in schema and float(mine) != float(schema[theirs]):
            found.append(f"{theirs} {mine}, not {schema[theirs]}")
    if param.enum and "enum" in schema and set(param.enum) != set(schema["enum"]):
        found.append(f"values {sorted(set(param.enum) ^ set(schema['enum']))} differ")
    return found


def expanded(parameters: Mapping[str, Any], ranges: Mapping[str, Any]) -> dict[str, Any]:
    """net[n] → net0 … net31"""
    found = {}
    for name, schema in parameters.items():
        if not name.endswith("[n]"):
            found[name] = schema
            continue
        first, last = {**ranges, **OF_CONTAINERS}[name[:-3]]
        found |= {f"{name[:-3]}{index}": schema for index in range(first, last + 1)}
    return found


# Property strings.


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("local-lvm:vm-1-disk-0,ssd=on,size=4G,discard=on", "local-lvm:vm-1-disk-0,discard=on,size=4G,ssd=1"),
        ("file=local:iso/a.iso,media=cdrom", "local:iso/a.iso,media=cdrom"),
        ("volume=x:y,iothread=yes", "x:y,iothread=1"),
    ],
)
def test_disks_are_reprinted_default_key_first(given: str, printed: str) -> None:
    assert format_disk(parse_disk("scsi0", given)) == printed


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("virtio=BC:24:11:00:00:01,tag=5,bridge=vmbr0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=5"),
        ("model=e1000,bridge=vmbr0,macaddr=bc:24:11:00:00:02", "e1000=bc:24:11:00:00:02,bridge=vmbr0"),
    ],
)
def test_nics_are_reprinted_model_first(given: str, printed: str) -> None:
    assert format_nic(parse_nic(given)) == printed


@pytest.mark.parametrize(
    ("size", "text"), [(32 * 1024**3, "32G"), (gib_to_bytes("4.5"), "4608M"), (0, "0T"), (1536, "1536"), (1024, "1K")]
)
def test_sizes_have_the_largest_even_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("grammar", "value", "wrong"),
    [
        (SCSI, "a:1,a:2", "duplicate key in comma-separated list property: file\n"),
        (SCSI, "a:1,=x", "missing key in comma-separated list property\n"),
        (SCSI, "a:1,wwn=1", "format error\nscsi0.wwn: value does not match the regex pattern\n"),
        (NET, "bridge=vmbr0", "format error\nscsi0.model: property is missing and it is not optional\n"),
    ],
)
def test_malformed_strings_get_pves_texts(grammar: Mapping[str, Param], value: str, wrong: str) -> None:
    assert check_properties(grammar, value, "scsi0") == wrong


def test_a_loose_reading_keeps_what_it_does_not_know() -> None:
    assert properties.split("1,type=isa", "enabled") == {"enabled": "1", "type": "isa"}
