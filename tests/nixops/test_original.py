"""Machines of the original nixops-proxmox: known by what it left in NixOps's state, and taken over as they are."""

import shutil

import pytest

from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.model import Facts
from nixops_proxmox.nixops2.original import TAKEN, as_it_is, is_originals, refuse_strangers
from nixops_proxmox.pve.api.answers import GuestSeen
from nixops_proxmox.pve.vm.identity import Mark, print_mark
from nixops_proxmox.spec import parse_machine
from tests.nixops.bed import machine, network
from tests.nixops.conftest import MakeNixops

GUEST = GuestSeen(105, "pve1", "qemu", "web")
OURS = {"name": "web", "smbios1": "uuid=6a2d3a5c-1111-4222-8333-444455556666", "description": "NixOps-managed VM"}


def test_what_it_left_is_recognized() -> None:
    assert is_originals({"vmId": "105", "proxmox.serverUrl": "pve.example"})
    assert not is_originals({"vmId": "105", "proxmox.record": "{}"})
    assert not is_originals({"proxmox.serverUrl": "pve.example"})


@pytest.mark.parametrize("config", [OURS, OURS | {"description": "mine"}, OURS | {"name": "shop-web"}])
def test_its_machines_are_known_by_name_or_notes(config: dict[str, str]) -> None:
    refuse_strangers("web", GUEST, config)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (OURS | {"name": "mail", "description": "the mail server"}, "does not look like"),
        (OURS | {"smbios1": ""}, "no SMBIOS UUID"),
        (OURS | {"description": print_mark(Mark("shop", "web", "6a2d3a5c-1111-4222-8333-444455556666"))}, "belongs to"),
    ],
    ids=["another's VM", "no UUID", "taken already"],
)
def test_others_are_left_alone(config: dict[str, str], why: str) -> None:
    with pytest.raises(NeedsPermission, match=why):
        refuse_strangers("web", GUEST, config)


def test_its_nics_keep_their_macs_and_declared_ones_count() -> None:
    nics = [{"bridge": "vmbr0"}, {"bridge": "vmbr1", "mac": "BC:24:11:00:00:09"}, {"bridge": "vmbr2"}]
    spec = parse_machine("web", {"proxmox": {"disks": [{"storage": "local", "size": 8}], "network": nics}})
    taken = Facts(extra={TAKEN: "net0=AA:00:00:00:00:01 net1=AA:00:00:00:00:02"})
    assert [nic.mac for nic in as_it_is(spec, taken).network] == ["AA:00:00:00:00:01", "BC:24:11:00:00:09", None]
    assert as_it_is(spec, Facts()) is spec


@pytest.mark.nixops
@pytest.mark.nix
@pytest.mark.netns
@pytest.mark.slow
def test_a_machine_of_the_original_is_deployed_without_being_recreated(make_nixops: MakeNixops) -> None:
    """Its state is rewritten to what the original kept; its VM to what the original made: no mark, no serials."""
    one = make_nixops(network({"web": machine(ipv4="10.77.0.71/24")}), deployment="taken-over")
    one.deploy()
    facts = one.records()["web"]["facts"]
    boot = one.ssh("web", "cat", "/proc/sys/kernel/random/boot_id")
    path = f"/nodes/{facts['node']}/qemu/{facts['vmid']}"
    one.bed.api("PUT", f"{path}/config", description="NixOps-managed VM", delete="tags")
    shutil.rmtree(next((one.bed.home / "state" / "nixops-proxmox" / "deployments").glob(f"nixops-{uuid_of(one)}")))
    (number,) = one.query("select id from Resources where name = 'web'")[0]
    one.query("delete from ResourceAttrs where machine = ? and name like 'proxmox.%'", number)
    left = {
        "proxmox.serverUrl": "pve.example", "proxmox.node": facts["node"], "proxmox.password": "hunter2",
        "proxmox.tokenValue": "hunter3", "proxmox.privateHostKey": "a key", "proxmox.publicHostKey": "ssh-ed25519 A",
        "proxmox.installed": "1", "proxmox.partitioned": "1",
    }  # fmt: skip
    for name, value in left.items():
        one.query("insert into ResourceAttrs (machine, name, value) values (?, ?, ?)", number, name, value)

    done = one.deploy()

    assert "taking it over" in done.stderr and "create the vm" not in done.stderr
    after = one.records()["web"]["facts"]
    assert {key: after[key] for key in ("vmid", "uuid", "macs", "host_key")} == {
        key: facts[key] for key in ("vmid", "uuid", "macs", "host_key")
    }
    assert one.ssh("web", "cat", "/proc/sys/kernel/random/boot_id") == boot
    assert one.ssh("web", "cat", "/etc/message") == "hello\n"
    assert not {"proxmox.password", "proxmox.tokenValue", "proxmox.privateHostKey"} & set(one.attributes("web"))
    assert "copying 0 paths" in one.deploy().stderr
    one.run("destroy", "--confirm")
    assert str(facts["vmid"]) not in one.bed.vms()


def uuid_of(one: object) -> str:
    found: str = one.query("select uuid from Deployments")[0][0]  # type: ignore[attr-defined]
    return found
