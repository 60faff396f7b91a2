"""Machines from an image and from templates: deployed, reached by their own host key, changed and made anew."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.pace import wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
in
{
  web = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install = { INSTALL };
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
    };
    toplevel = import DEMO/system.nix {
      name = "web";
      hosts = { };
      service = { port = 80; handler = "echo version ${from "VERSION" "1"}"; };
    };
  };
}
"""


def with_install(bed: "Bed", folder: Path, install: str) -> "Bed":
    from tests.e2e.bed import DEMO

    network = folder / "copies" / "network.nix"
    network.parent.mkdir(exist_ok=True)
    network.write_text(NETWORK.replace("DEMO", str(DEMO)).replace("INSTALL", install))
    return replace(bed, network=network)


def upload_image(bed: "Bed", folder: Path, content: bytes = b"a plain system") -> Any:
    """`content`: of an image that no other test has, so that it can be removed."""
    image = folder / "plain.raw"
    image.write_bytes(content * 1000)
    return json.loads(bed.run("iso", "upload", str(image), "--json").stdout)


def make_template(bed: "Bed", put: Any) -> int:
    """As people make them: a VM from an image, turned into a template."""
    node, vmid = put["node"], make_vm(bed, put)
    bed.api("POST", f"/nodes/{node}/qemu/{vmid}/template")
    wait_for_tasks(bed, "qmtemplate", vmid)
    return vmid


def make_vm(bed: "Bed", put: Any) -> int:
    """From an image, agent and all."""
    node = put["node"]
    disk = f"local-lvm:0,import-from={put['volume']}"
    bed.api(
        "POST",
        f"/nodes/{node}/qemu",
        vmid=9000,
        name="plain",
        scsi0=disk,
        scsihw="virtio-scsi-single",
        net0="virtio,bridge=vmbr0",
        agent="1",
        boot="order=scsi0",
    )
    wait_for_tasks(bed, "qmcreate", 9000)
    return 9000


def wait_for_tasks(bed: "Bed", kind: str, vmid: int, seconds: float = 30.0) -> None:
    def ended() -> bool:
        tasks = [task for task in bed.tasks(kind) if str(task["id"]) == str(vmid)]
        return bool(tasks) and all(task.get("status") == "OK" for task in tasks)

    wait_until(ended, seconds, f"the end of {kind}")


def check_ready(bed: "Bed", version: str) -> dict[str, Any]:
    (machine,) = bed.status()
    assert machine["phase"] == "ready" and machine["generation"]
    shown = bed.ssh(
        "web", "cat /etc/ssh/ssh_host_ed25519_key.pub; fetch-http http://127.0.0.1/; cat /sys/class/dmi/id/product_uuid"
    )
    key, answer, uuid = shown.splitlines()
    assert key.split()[:2] == machine["host_key"].split()[:2]
    assert (answer, uuid) == (f"version {version}", machine["uuid"])
    return machine


def test_an_upload_is_removed_only_when_the_user_agrees(bed: "Bed", tmp_path: Path) -> None:
    put, file = upload_image(bed, tmp_path), str(tmp_path / "plain.raw")
    refused = bed.run("iso", "remove", file, check=False)
    assert refused.returncode != 0 and "add --yes" in refused.stderr
    removed = {"volume": put["volume"], "node": put["node"], "removed": True}
    assert json.loads(bed.run("iso", "remove", file, "--yes", "--json").stdout) == removed
    assert "no storage has this file" in bed.run("iso", "remove", file, "--yes", check=False).stderr
    assert upload_image(bed, tmp_path)["uploaded"]
    bed.run("iso", "remove", file, "--yes")  # the lab keeps what is uploaded for the tests that follow


def test_a_machine_from_an_image(bed: "Bed", tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "plain.raw").write_bytes(b"a plain system" * 1000)
    bed = with_install(bed, tmp_path, 'from = "image"; image = ./plain.raw;')
    assert "upload the image plain-" in bed.run("plan").stdout
    bed.run("deploy")
    (upload,) = bed.tasks("imgcopy")
    assert not upload_image(bed, tmp_path)["uploaded"], "the same content travelled twice"
    before = check_ready(bed, "1")
    assert "nothing" in bed.run("plan").stdout + bed.run("plan").stderr or not bed.tasks("qmconfig")
    bed.forget_calls()
    bed.run("deploy")
    assert all(call["method"] == "GET" for call in bed.calls()), "a second deploy changed something"
    bed.run("deploy", VERSION="2")
    check_ready(bed, "2")
    bed.run("reinstall", "--yes")
    after = check_ready(bed, "1")
    same = ("vmid", "uuid", "macs", "host_key")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert len(bed.tasks("qmcreate")) == 2 and len(bed.images()) == 1
    assert bed.tasks("imgcopy") == [upload], "the reinstall sent its image again"
    assert "deleted local:import/plain-" in bed.run("destroy", "--yes").stderr
    files = bed.api("GET", f"/nodes/{upload['upid'].split(':')[1]}/storage/local/content", content="import")
    assert not files and not bed.vms() and not bed.images()
    kept = list((bed.home / "state" / "nixops-proxmox" / "deployments").glob("*/roots/*"))
    assert kept == [], "Nix's garbage collector would keep its system for ever"


@pytest.mark.parametrize(
    "full", [pytest.param(False, id="linked"), pytest.param(True, id="full", marks=pytest.mark.weekly)]
)
def test_a_machine_from_a_template(bed: "Bed", tmp_path: Path, *, full: bool) -> None:
    make_template(bed, upload_image(bed, tmp_path))
    clone = "fullClone = true;" if full else "cloudInit = { };"
    bed = with_install(bed, tmp_path, f'from = "template"; template = "plain"; {clone}')
    bed.run("deploy")
    machine = check_ready(bed, "1")
    vm = bed.vms()[str(machine["vmid"])]
    assert "unfinished" not in json.dumps(vm)
    assert full or (vm["config"]["ciuser"], "cloudinit" in vm["config"]["ide0"]) == ("root", True)
    bed.run("stop")
    bed.run("start")
    check_ready(bed, "1")
    assert not json.loads(bed.run("check", "--json").stdout)["machines"][0]["changes"]
    bed.run("destroy", "--yes")
    assert set(bed.vms()) == {"9000"} and len(bed.images()) == 1


def test_a_machine_from_a_backup(bed: "Bed", tmp_path: Path) -> None:
    put = upload_image(bed, tmp_path, b"in a backup")
    node, vmid = put["node"], make_vm(bed, put)
    bed.api("POST", f"/nodes/{node}/vzdump", vmid=vmid, storage="local", mode="stop")
    wait_for_tasks(bed, "vzdump", vmid)
    bed.api("DELETE", f"/nodes/{node}/qemu/{vmid}")
    wait_for_tasks(bed, "qmdestroy", vmid)
    (saved,) = bed.api("GET", f"/nodes/{node}/storage/local/content", content="backup")
    bed = with_install(bed, tmp_path, f'from = "backup"; backup = "{saved["volid"]}";')
    bed.run("deploy")
    before = check_ready(bed, "1")
    bed.forget_calls()
    bed.run("deploy")
    assert all(call["method"] == "GET" for call in bed.calls()), "a second deploy changed something"
    bed.run("reinstall", "--yes")
    after = check_ready(bed, "1")
    same = ("vmid", "uuid", "macs", "host_key")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert len(bed.tasks("qmrestore")) == 2
    bed.run("destroy", "--yes")
    assert not bed.vms() and not bed.images()
    bed.run("iso", "remove", str(tmp_path / "plain.raw"), "--yes")


def test_machines_of_a_described_template_have_it_made_once_where_they_are(bed: "Bed", tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "plain.raw").write_bytes(b"a plain system" * 1000)
    bed = with_install(bed, tmp_path, 'from = "template"; template = "base";')
    described = 'resources.templates.base = { image = ./plain.raw; storage = "local-lvm"; };'
    text = bed.network.read_text()
    bed.network.write_text(text.replace("  web = {", f"  {described}\n  web = {{"))
    assert "it is made on" in bed.run("plan").stdout
    bed.run("deploy")
    check_ready(bed, "1")
    (made,) = (vm for vm in bed.vms().values() if vm["config"]["name"] == "base")
    assert len(bed.tasks("qmtemplate")) == 1
    bed.forget_calls()
    bed.run("deploy")
    assert all(call["method"] == "GET" for call in bed.calls()), "a second deploy changed something"
    bed.run("reinstall", "--yes")
    check_ready(bed, "1")
    assert len(bed.tasks("qmtemplate")) == 1 and len(bed.tasks("imgcopy")) == 1
    assert made["config"]["template"] == "1"
    kept = bed.run("destroy", "--resource", "template/base", "--yes", check=False)
    assert kept.returncode != 0 and "linked clones of it exist (web: VM" in kept.stderr
    bed.run("destroy", "--yes")
    assert not bed.vms() and not bed.images()
