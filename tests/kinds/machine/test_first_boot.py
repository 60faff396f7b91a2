"""What cloud-init is told at the first boot: as it reads it, and from an image that other programs can read."""

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixops_proxmox.kinds.machine.first_boot import HEADER, first_disc, meta_data, network_config, user_data
from nixops_proxmox.kinds.machine.iso_image import SECTOR, iso_image
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.spec import IpSpec, MachineSpec, Nic
from nixops_proxmox.spec.cloud_init import CloudInit
from tests.kinds.machine.cluster import COPIES, Bench

UUID = "11111111-2222-4333-8444-555555555555"
MACHINE = Machine(
    "demo", "web", Phase.DEFINED, Facts(uuid=UUID, vmid=100, macs=("BC:24:11:00:00:01", "bc:24:11:00:00:02"))
)
STATIC = Nic.model_validate(
    {
        "slot": "net1",
        "bridge": "vmbr1",
        "ipv4": IpSpec.model_validate({"method": "static", "address": "10.0.0.2", "prefix": 24, "gateway": "10.0.0.1"}),
        "ipv6": IpSpec(method="none"),
        "dns": ("10.0.0.53",),
    }
)
SPEC = MachineSpec(name="web", network=(Nic(slot="net0", bridge="vmbr0"), STATIC))


def files_of(image: bytes) -> dict[str, bytes]:
    """By the Rock Ridge names, read as the standard says and not as we write it."""
    root = image[16 * SECTOR + 156 : 16 * SECTOR + 190]
    at = struct.unpack("<I", root[2:6])[0] * SECTOR
    found = {}
    while image[at]:
        record = image[at : at + image[at]]
        begin, size = struct.unpack("<I", record[2:6])[0] * SECTOR, struct.unpack("<I", record[10:14])[0]
        fields = record[33 + record[32] + (record[32] + 1) % 2 :]
        name = ""
        while len(fields) > 4 and fields[2]:
            if fields[:2] == b"NM":
                name = fields[5 : fields[2]].decode()
            fields = fields[fields[2] :]
        if name:
            found[name] = image[begin : begin + size]
        at += len(record)
    return found


@given(st.dictionaries(st.from_regex(r"[a-z-]{1,20}", fullmatch=True), st.binary(max_size=5000), max_size=4))
@settings(max_examples=50)
def test_an_image_gives_back_its_files_and_is_whole_sectors(files: dict[str, bytes]) -> None:
    image = iso_image("cidata", files)
    assert files_of(image) == files
    assert len(image) % SECTOR == 0 and image == iso_image("cidata", dict(reversed(files.items())))


@pytest.mark.skipif(shutil.which("xorriso") is None, reason="xorriso is not installed")
@pytest.mark.parametrize("names", [[], ["-read_fs", "norock"]], ids=["rock-ridge", "joliet"])
def test_other_programs_read_the_image_by_either_kind_of_names(tmp_path: Path, names: list[str]) -> None:
    image, out = tmp_path / "disc.iso", tmp_path / "out"
    image.write_bytes(iso_image("cidata", {"user-data": b"#cloud-config\n" * 500, "meta-data": b"{}"}))
    argv = ["xorriso", "-osirrox", "on", *names, "-indev", str(image), "-extract", "/", str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "Volume id    : 'cidata'" in done.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "user-data": b"#cloud-config\n" * 500,
        "meta-data": b"{}",
    }


def test_the_disc_says_who_the_machine_is_and_keeps_saying_it() -> None:
    disc = first_disc(MACHINE, SPEC, "PRIVATE\n", "ssh-ed25519 AAAA", ["ssh-ed25519 BBBB me\n"])
    files = files_of(disc)
    assert set(files) == {"meta-data", "user-data", "network-config"}
    assert json.loads(files["meta-data"]) == {"instance-id": UUID, "local-hostname": "web"}
    user = files["user-data"].decode()
    assert user.startswith("#cloud-config\n")
    told = json.loads(user.removeprefix(HEADER))
    assert told["ssh_keys"] == {"ed25519_private": "PRIVATE\n", "ed25519_public": "ssh-ed25519 AAAA\n"}
    assert told["ssh_deletekeys"] is False and told["package_upgrade"] is False
    assert told["users"][1] == {"name": "root", "ssh_authorized_keys": ["ssh-ed25519 BBBB me"]}
    renamed = MACHINE.moved(Phase.READY, MACHINE.facts)
    assert meta_data(renamed) == meta_data(MACHINE)


@pytest.mark.parametrize(("user", "disabled"), [("root", False), ("admin", True)])
def test_root_may_log_in_only_where_we_log_in_as_root(user: str, *, disabled: bool) -> None:
    spec = SPEC.model_copy(update={"ssh": SPEC.ssh.model_copy(update={"user": user})})
    told = user_data(spec, "", "", ["key"])
    assert told["disable_root"] is disabled
    assert told["users"][1]["name"] == user and ("sudo" in told["users"][1]) is disabled


def test_nics_are_told_apart_by_their_macs() -> None:
    nics = network_config(MACHINE, SPEC)["ethernets"]
    assert [(name, nic["match"]["macaddress"], nic["set-name"]) for name, nic in nics.items()] == [
        ("eth0", "bc:24:11:00:00:01", "eth0"),
        ("eth1", "bc:24:11:00:00:02", "eth1"),
    ]
    assert nics["eth0"]["dhcp4"] and nics["eth0"]["accept-ra"] and "addresses" not in nics["eth0"]
    assert nics["eth1"] == {
        "match": {"macaddress": "bc:24:11:00:00:02"},
        "set-name": "eth1",
        "dhcp4": False,
        "dhcp6": False,
        "accept-ra": False,
        "addresses": ["10.0.0.2/24"],
        "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}],
        "nameservers": {"addresses": ["10.0.0.53"]},
    }


@pytest.mark.parametrize("told", [CloudInit(), None])
def test_cloud_init_makes_no_other_host_keys_whatever_pves_drive_tells_it_next(told: CloudInit | None) -> None:
    bench, spec = Bench(), COPIES["template"]
    bench.run(spec=spec.model_copy(update={"install": spec.install.model_copy(update={"cloud_init": told})}))
    assert bench.vm.keeps_keys is (told is not None)
