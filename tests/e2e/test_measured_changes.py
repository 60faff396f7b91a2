"""Twenty-five changes to a machine that runs, by the description and by hand: the plan's words, what the deploy did,
and how long its service was away. The table of them is in docs/measured-changes.md."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.test_systems import wait_for_tasks
from tests.measured import Change, check, measure, node, publish, set_by_hand
from tests.pace import wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(1500)]

ADDRESS = "10.77.0.11"
NETWORK = """\
let
  given = builtins.fromJSON (let text = builtins.getEnv "GIVEN"; in if text == "" then "{}" else text);
in
{
  web = {
    deployment.proxmox = {
      memory = 512;
      cpu.cores = 1;
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      tags = [ "demo" ];
      onboot = false;
      install.iso = "local:iso/lab-installer.iso";
    } // (given.vm or { }) // {
      network = [
        {
          bridge = "vmbr0";
          ipv4 = { method = "static"; address = "10.77.0.11"; prefix = 24; };
        }
      ] ++ (given.nics or [ ]);
    };
    toplevel = import DEMO/system.nix {
      name = "web";
      hosts = { };
      service = { port = 80; handler = "echo version ${toString (given.version or 1)}"; };
    };
  };
}
"""
REBOOT = ("--allow-reboot",)
ROOT, ROOT_2G, DATA, SHARED = (
    {"storage": storage, "size": size}
    for storage, size in (("local-lvm", "1G"), ("local-lvm", "2G"), ("local-lvm", "512M"), ("shared", "512M"))
)
AS_IT_IS: dict[str, Any] = {"disks": [ROOT_2G, SHARED], "tags": ["demo", "prod"], "startup": "order=2", "balloon": 256}
BUSY: dict[str, Any] = AS_IT_IS | {"memory": 640, "cpu": {"cores": 2, "limit": 1.5, "type": "host"}, "display": "std"}


def vm(options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """All that the description has from now on beside its base."""
    return {"vm": {**options, **more}}


def nics(**options: Any) -> dict[str, Any]:
    return {"nics": [{"bridge": "vmbr0", **options}]}


def migrate_by_hand(bed: "Bed", vmid: int) -> None:
    params = {"target": "pve2", "online": 1, "with-local-disks": 1}
    bed.api("POST", f"/nodes/{node(bed, vmid)}/qemu/{vmid}/migrate", **params)
    wait_for_tasks(bed)
    assert node(bed, vmid) == "pve2"


def attach_again(bed: "Bed", vmid: int) -> None:
    from nixops_proxmox.pve.vm.identity import find_mark
    from nixops_proxmox.spec.serials import derived_serial, serials_of

    config = bed.vms()[str(vmid)]["config"]
    mark = find_mark(config["description"])
    assert mark is not None
    serial = derived_serial(serials_of(mark.deployment, mark.machine), "scsi1")
    set_by_hand(scsi1=f"{config['unused0']},serial={serial}")(bed, vmid)


def restart_with_more_memory(bed: "Bed", vmid: int) -> None:
    set_by_hand(memory=768)(bed, vmid)
    bed.api("POST", f"/nodes/{node(bed, vmid)}/qemu/{vmid}/status/reboot")
    wait_for_tasks(bed)
    wait_until(lambda: bed.run("ssh", "web", "true", check=False).returncode == 0, what="the machine", every=0.5)


CHANGES = (
    Change("one more tag", vm({"tags": ["demo", "prod"]})),
    Change("another place in the order of starts", vm({"tags": ["demo", "prod"], "startup": "order=2"})),
    Change("a limit of its processors", vm({"tags": ["demo", "prod"], "startup": "order=2", "cpu": {"limit": 1.5}})),
    Change("less memory when the node is short of it", vm({**AS_IT_IS, "disks": [ROOT], "cpu": {"limit": 1.5}})),
    Change("a second disk", vm(AS_IT_IS, disks=[ROOT, DATA], cpu={"limit": 1.5})),
    Change("the first disk larger", vm(AS_IT_IS, disks=[ROOT_2G, DATA], cpu={"limit": 1.5})),
    Change("the second disk on another storage", vm(AS_IT_IS, cpu={"limit": 1.5})),
    Change("a second NIC", nics()),
    Change("a VLAN for the second NIC", nics(tag=20)),
    Change("the second NIC on another bridge", nics(bridge="vmbr1")),
    Change("the second NIC taken away", {"nics": []}),
    Change("more memory, and no permission to restart", vm(AS_IT_IS, memory=640, cpu={"limit": 1.5})),
    Change("the same, with permission", words=REBOOT),
    Change("a second core", vm(AS_IT_IS, memory=640, cpu={"limit": 1.5, "cores": 2}), words=REBOOT),
    Change("another display and CPU type", vm(BUSY), words=REBOOT),
    Change("another system", {"version": 2}),
    Change("cores: 3", hand=set_by_hand(cores=3)),
    Change("tags: demo", hand=set_by_hand(tags="demo")),
    Change("it starts with its node", hand=set_by_hand(onboot=1)),
    Change("a NIC added", hand=set_by_hand(net3="virtio=BC:24:11:00:00:09,bridge=vmbr0")),
    Change("protection", hand=set_by_hand(protection=1), after=set_by_hand(delete="protection")),
    Change(
        "the second disk detached",
        hand=set_by_hand(delete="scsi1"),
        refused="we create no empty volume without your permission",
        after=attach_again,
    ),
    Change("migrated to another node", hand=migrate_by_hand),
    Change("more memory, and restarted", hand=restart_with_more_memory, words=REBOOT),
    Change("the second disk taken away", vm(BUSY, disks=[ROOT_2G])),
)


@pytest.fixture
def web(bed: "Bed", tmp_path: Path) -> "Bed":
    from tests.e2e.bed import DEMO

    network = tmp_path / "shop" / "network.nix"
    network.parent.mkdir()
    network.write_text(NETWORK.replace("DEMO", str(DEMO)))
    return replace(bed, network=network)


def test_each_change_is_what_the_plan_said_and_takes_as_long(web: "Bed") -> None:
    assert len(CHANGES) == 25
    web.run("deploy")
    rows = measure(web, "web", CHANGES, ADDRESS)
    check(rows)
    publish("lab", rows)
