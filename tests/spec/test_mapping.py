"""Resource mappings: what may be said of one."""

from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec.mapping import MappingSpec
from nixops_proxmox.spec.parse import parse_network

MACHINE = {"disks": [{"storage": "local-lvm", "size": "4G"}], "network": [{"bridge": "vmbr0"}]}


def parse(**described: Any) -> MappingSpec:
    machines = {"web": {"proxmox": MACHINE}}
    [found] = parse_network("demo", {"machines": machines, "resources": {"mappings": {"gpu": described}}}).resources
    assert isinstance(found, MappingSpec)
    return found


def test_entries_are_printed_as_pve_has_them() -> None:
    entry = {"node": "pve1", "path": "0000:01:00.0", "id": "10de:1b80", "iommuGroup": 3, "subsystemId": "1043:85e5"}
    [found] = parse(type="pci", entries=[entry]).entries
    assert found.print() == "node=pve1,path=0000:01:00.0,id=10de:1b80,subsystem-id=1043:85e5,iommugroup=3"


NODE = {"node": "pve1"}
WRONG: dict[str, dict[str, Any]] = {
    "gpu.entries: expected": {"type": "pci", "entries": []},
    "entries[0].path: must be set": {"type": "pci", "entries": [{**NODE, "id": "10de:1b80"}]},
    "entries[0].path: PVE takes no such path of dir": {"type": "dir", "entries": [{**NODE, "path": "srv"}]},
    "entries[0].id: must be set": {"type": "usb", "entries": [{**NODE, "path": "1-2.3"}]},
    "entries[0].id: has no meaning": {"type": "dir", "entries": [{**NODE, "path": "/srv", "id": "1050:0407"}]},
    "gpu.mediated: has a meaning with pci only": {
        "type": "dir", "entries": [{**NODE, "path": "/srv"}], "mediated": True
    },
    "entries[0].nodes: there is no such option": {"type": "dir", "entries": [{"nodes": "pve1", "path": "/srv"}]},
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_pve_would_not_take_is_a_mistake(text: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse(**WRONG[text])
    assert text in str(raised.value)
