"""Encrypted disks of real guests: LUKS2, Debian's clevis and tang, and a first stage that opens the root disk."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_copies import wait_for_tasks
from tests.e2e.test_secrets import Sampler
from tests.pace import wait_until
from tests.qemu.tang import TangServer, start_tang

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.slow, pytest.mark.timeout(900)]

NETWORK = """\
let size = builtins.getEnv "VAULT_SIZE"; in {
  vault = {
    deployment.proxmox = {
      memory = 768;
      disks = [ { storage = "local-lvm"; size = if size == "" then "2G" else size; } MORE_DISKS ];
      network = [ { bridge = "vmbr0"; } ];
      install.iso = "local:iso/lab-installer.iso";
      encryption = {
        unlock = { UNLOCK };
        recovery.sink.folder = "SINK";
      };
      MORE
    };
    toplevel = import DEMO/system.nix { name = "vault"; hosts = { }; service = { port = 80; handler = "echo"; }; };
  };
}
"""
DATA_DISK = "scsi1"
KEPT_DISK = '{ storage = "local-lvm"; size = "256M"; encrypt = true; keep = true; }'
HOW = "dmesg | grep -o 'unlock: opened by .*'"
BOOT = "cat /proc/sys/kernel/random/boot_id"
UNSEALED, TYPED = "unlock: opened by the sealed key", "unlock: opened by a passphrase"


@pytest.fixture(scope="module")
def tang(guest_bed: "GuestBed", tmp_path_factory: pytest.TempPathFactory) -> Iterator[TangServer]:
    with start_tang(guest_bed, tmp_path_factory.mktemp("tang") / "server") as server:
        yield server


@pytest.fixture
def sink(tmp_path: Path) -> Path:
    return tmp_path / "recovery"


def named(bed: "GuestBed", name: str, unlock: str, sink: Path, more: str = "", more_disks: str = "") -> "GuestBed":
    network = NETWORK.replace("UNLOCK", unlock).replace("SINK", str(sink)).replace("MORE_DISKS", more_disks)
    network = network.replace("MORE", more)
    return bed.named(name, network)


def by(tang: TangServer) -> str:
    return f'tang = [ {{ url = "{tang.url}"; thumbprint = "{tang.thumbprint}"; }} ];'


@pytest.fixture
def vault(guest_bed: "GuestBed", tang: TangServer, sink: Path) -> Iterator["GuestBed"]:
    bed = named(guest_bed, "vault", f"{by(tang)} tool = true;", sink)
    tang.start()
    try:
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def serial(bed: "GuestBed", vmid: int) -> str:
    """The end of what the serial console said, which the lab keeps; nothing before its first start."""
    return "".join(log.read_text(errors="replace")[-400:] for log in bed.lab_folder.glob(f"**/{vmid}/serial.log"))


def wait_until_asked(bed: "GuestBed", vmid: int) -> None:
    """Now: the console still shows what was asked at earlier boots."""
    question = "Please enter passphrase for disk root:"
    wait_until(lambda: serial(bed, vmid).rstrip().endswith(question), 120, "the question for a passphrase", 0.2)


def keys_of(bed: "GuestBed", sink: Path) -> list[str]:
    """Every key of its first disk: in the sink, in the key store, and sealed."""
    (recovery,) = sink.glob("*-root-*.key")
    keys = bed.home / "state" / "nixops-proxmox" / "deployments" / bed.deployment / "keys" / "disks"
    (tool,) = (path for path in keys.rglob("*.tool") if DATA_DISK not in path.name)
    sealed = bed.ssh("vault", "clevis decrypt < /etc/nixops-proxmox/encryption/root.jwe")
    return [recovery.read_text().strip(), tool.read_text(), sealed]


def test_an_encrypted_machine_boots_by_itself_its_copy_does_not_and_a_reinstall_keeps_its_data(
    guest_bed: "GuestBed", tang: TangServer, sink: Path
) -> None:
    """tang, a TPM and the tool, and a disk of data, in one story: each first boot takes a minute."""
    unlock, more = f"{by(tang)} tpm2 = {{ }}; tool = true;", 'tpm = { storage = "local-lvm"; };'
    bed = named(guest_bed, "unattended", unlock, sink, more, KEPT_DISK)
    tang.start()
    try:
        with Sampler() as sampler:
            told = bed.run("deploy", "-vv").stderr
            check_opened_by_itself(bed, tang, sink)
            tang.stop()
            bed.run("reboot", "vault")
            assert bed.ssh("vault", HOW).strip() == UNSEALED, "the TPM alone is enough"
            tang.start()
            keys = keys_of(bed, sink)
            check_copy(bed)
            told += check_typed(bed, tang)
            argv = b"\n".join(sampler.seen)
        check_no_key_in(bed, keys, {"logs": told.encode(), "argv": argv})
        check_data_is_kept(bed, tang)
    finally:
        bed.run("destroy", "--yes", check=False)


def check_opened_by_itself(bed: "GuestBed", tang: TangServer, sink: Path) -> None:
    assert bed.machine("vault")["phase"] == "ready"
    assert bed.ssh("vault", "lsblk -nspo TYPE $(findmnt -n -o SOURCE /)").split() == ["disk", "part", "crypt"]
    assert bed.ssh("vault", HOW).strip() == UNSEALED
    luks = bed.facts("vault")["luks"]
    assert luks["slots"] == f"1 recovery, 2 1 of tang {tang.thumbprint} tpm2 7+15, 3 tool"
    names = {f"vault-root-{luks['uuid']}.key", f"vault-{DATA_DISK}-{luks[f'{DATA_DISK} uuid']}.key"}
    assert {path.name for path in sink.iterdir()} == names
    assert luks["slots"] in bed.run("status").stdout


def check_copy(bed: "GuestBed") -> None:
    """As the page of it says: tang gives its part to everybody who reaches it, and to no one else."""
    bed.run("stop", "vault")
    with copied(bed, vmid := bed.facts("vault")["vmid"], copy := 9100):
        nic = bed.config(vmid)["net0"]  # with the machine's own MAC, as a thief would set it
        bed.set_config(copy, net0=f"{nic},link_down=1", delete="tpmstate0")
        bed.api("POST", f"/nodes/{bed.node(vmid)}/qemu/{copy}/status/start")
        wait_for_tasks(bed, "qmstart", copy)
        wait_until_asked(bed, copy)
        asked = bed.run("unlock", "vault", check=False)
        assert asked.returncode != 0, "the machine itself does not run"
        assert "Please enter passphrase" in serial(bed, copy), "without tang and a TPM it waits for ever"
        bed.set_config(copy, net0=nic)
        wait_until_up(bed, copy)


def check_typed(bed: "GuestBed", tang: TangServer) -> str:
    """Its TPM is taken away for a while, and tang is. Returns what the tool said when it typed the key."""
    vmid = bed.facts("vault")["vmid"]
    tpm = bed.config(vmid)["tpmstate0"]
    bed.set_config(vmid, delete="tpmstate0")
    tang.stop()
    bed.api("POST", f"/nodes/{bed.node(vmid)}/qemu/{vmid}/status/start")
    wait_until_asked(bed, vmid)
    told = bed.run("unlock", "vault", "-vv").stderr
    assert "typing the key of its disk" in told
    bed.run("start", "vault")
    assert bed.ssh("vault", HOW).strip() == TYPED
    assert "nothing asks" in bed.run("unlock", "vault", "-vv").stderr
    bed.set_config(vmid, tpmstate0=tpm)  # in force from its next start on
    tang.start()
    return told


def check_no_key_in(bed: "GuestBed", keys: list[str], seen: dict[str, bytes]) -> None:
    assert len(set(keys)) == 3 and all(len(key) == 71 for key in keys)
    seen["state"] = b"".join(path.read_bytes() for path in bed.state_file.parent.glob("state.sqlite*"))
    seen["serial"] = serial(bed, bed.facts("vault")["vmid"]).encode()
    seen["cluster"] = json.dumps(bed.control("GET", "state")).encode()
    assert [(place, key[:8]) for place, text in seen.items() for key in keys if key.encode() in text] == []
    device = f"$(findfs UUID={bed.facts('vault')['luks']['uuid']})"
    for number, key in zip((1, 3, 2), keys, strict=True):
        opens = f"cryptsetup open --test-passphrase --key-slot {number} --key-file - {device}"
        bed.ssh("vault", f"printf %s {key} | {opens}")
    lines = "\n".join(keys)
    assert bed.ssh("vault", f"echo '{lines}' | grep -rlF -f - /boot /etc /nix/var /root /var || true") == ""


def check_data_is_kept(bed: "GuestBed", tang: TangServer) -> None:
    key, device = f"/etc/nixops-proxmox/encryption/{DATA_DISK}.key", f"$(findfs LABEL=nixos-{DATA_DISK})"
    opens = f"cryptsetup open --key-file {key} {device} {DATA_DISK}"
    before, secret = bed.facts("vault")["luks"], bed.ssh("vault", f"cat {key}")
    bed.ssh("vault", f"{opens} && echo kept > /dev/mapper/{DATA_DISK} && sync && cryptsetup close {DATA_DISK}")
    bed.run("reinstall", "--yes")
    after = bed.facts("vault")["luks"]
    assert after["uuid"] != before["uuid"] and after[f"{DATA_DISK} uuid"] == before[f"{DATA_DISK} uuid"]
    assert bed.ssh("vault", HOW).strip() == UNSEALED
    assert after["slots"] == before["slots"]
    assert bed.ssh("vault", f"cat {key}") == secret
    assert bed.ssh("vault", f"{opens} && head -n 1 /dev/mapper/{DATA_DISK}").strip() == "kept"


@pytest.mark.weekly
def test_a_reinstall_and_a_kill_in_the_middle_end_with_a_disk_that_opens_by_itself(
    vault: "GuestBed", sink: Path
) -> None:
    from tests.qemu.bed import kill

    process = vault.start("deploy", "-v")
    vault.wait_until_begun("partitioned", process)
    kill(process)
    vault.run("deploy")
    first = vault.facts("vault")["luks"]
    assert vault.ssh("vault", HOW).strip() == UNSEALED
    process = vault.start("reinstall", "--yes", "-v")
    vault.wait_until_said("installing the (base system|boot loader)", process)
    kill(process)
    vault.run("deploy")
    second = vault.facts("vault")["luks"]
    assert vault.ssh("vault", HOW).strip() == UNSEALED
    assert first["uuid"] != second["uuid"] and first["recovery"] != second["recovery"]
    assert len(list(sink.iterdir())) == 2
    vault.run("reboot", "vault")
    assert vault.ssh("vault", HOW).strip() == UNSEALED


@contextmanager
def copied(bed: "GuestBed", vmid: int, copy: int) -> Iterator[None]:
    """A full clone of a machine that is switched off."""
    node = bed.node(vmid)
    bed.api("POST", f"/nodes/{node}/qemu/{vmid}/clone", newid=copy, full=1)
    wait_for_tasks(bed, "qmclone", vmid, 60)
    try:
        yield
    finally:
        if bed.vms()[str(copy)]["status"] == "running":
            bed.api("POST", f"/nodes/{node}/qemu/{copy}/status/stop")
            bed.wait_until_off(copy)
        bed.api("DELETE", f"/nodes/{node}/qemu/{copy}")


def wait_until_up(bed: "GuestBed", vmid: int) -> None:
    wait_until(lambda: "press Enter to activate this console" in serial(bed, vmid), 120, "its system", 0.2)


def slots_of(bed: "GuestBed") -> list[str]:
    """As its header has them, whatever we recorded."""
    dump = "cryptsetup luksDump --dump-json-metadata $(blkid -t TYPE=crypto_LUKS -o device)"
    return sorted(json.loads(bed.ssh("vault", dump))["keyslots"], key=int)


@pytest.mark.weekly
def test_a_machine_that_runs_gets_new_keys_and_boots_with_them(vault: "GuestBed", sink: Path) -> None:
    from tests.qemu.bed import kill

    vault.run("deploy")
    old = keys_of(vault, sink)
    tried = json.loads(vault.run("recovery", "test", "vault", "--json").stdout)
    assert (tried["slot"], tried["use"], tried["slots"], tried["ok"]) == (1, "recovery", [1, 2, 3], True)
    process = vault.start("recovery", "rotate", "vault", "-vv")
    vault.wait_until_said("beside the old ones", process)
    kill(process)
    with Sampler() as sampler:
        told = vault.run("recovery", "rotate", "vault", "-vv").stderr
        vault.run("recovery", "test", "vault")
        argv = b"\n".join(sampler.seen)
    new = keys_of(vault, sink)
    assert not set(old) & set(new) and slots_of(vault) == ["1", "2", "3"]
    assert not [key[:8] for key in (*old, *new) if key in told or key.encode() in argv]
    path = next(sink.iterdir())
    path.write_text(old[0])
    refused = vault.run("recovery", "test", "vault", check=False)
    assert refused.returncode == 1 and "does not open" in refused.stdout
    path.write_text(new[0])
    assert vault.ssh("vault", "ls /run/nixops-proxmox-keys 2>/dev/null || true") == ""

    before = vault.machine("vault")["encryption"]["opened_by_itself"]["boot"]
    vault.run("reboot", "vault")
    assert vault.ssh("vault", HOW).strip() == UNSEALED, "the first stage has the new sealed key"
    assert vault.machine("vault")["encryption"]["opened_by_itself"]["boot"] not in ("", before)
    assert "opened by itself" in vault.run("status").stdout
    vault.run("check")


@pytest.mark.weekly
def test_a_header_in_the_sink_brings_back_the_keys_of_its_time(guest_bed: "GuestBed", sink: Path) -> None:
    bed = named(guest_bed, "header", "tool = true;", sink, "encryption.recovery.header = true;")
    try:
        bed.run("deploy")
        (header,) = sink.glob("*.header")
        assert header.stat().st_size == 16 << 20 and header.stat().st_mode & 0o777 == 0o600
        first = header.read_bytes()
        bed.run("recovery", "rotate", "vault")
        assert header.read_bytes() != first
    finally:
        bed.run("destroy", "--yes", check=False)


@pytest.mark.weekly
@pytest.mark.parametrize("firmware", ["", 'efi = { storage = "local-lvm"; };'], ids=["seabios", "ovmf"])
def test_where_nothing_else_opens_the_disk_deploys_and_reboots_do(
    guest_bed: "GuestBed", sink: Path, firmware: str
) -> None:
    bed = named(guest_bed, f"typed-{'uefi' if firmware else 'bios'}", "tool = true;", sink, firmware)
    try:
        bed.run("deploy")
        assert bed.ssh("vault", HOW).strip() == TYPED
        before = bed.ssh("vault", BOOT)
        bed.run("reboot", "vault")
        assert bed.ssh("vault", BOOT) != before and bed.ssh("vault", HOW).strip() == TYPED
    finally:
        bed.run("destroy", "--yes", check=False)


@pytest.mark.weekly
@pytest.mark.parametrize(
    ("layout", "firmware", "layers", "rungs"),
    [
        ("lvm", "", "disk part crypt lvm", "PV root and LV nixos/root and ext4 /"),
        ("btrfs", 'efi = { storage = "local-lvm"; };', "disk part crypt", "btrfs /"),
    ],
)
def test_any_layout_lies_on_an_encrypted_disk_that_tang_opens_and_grows_with_it(
    guest_bed: "GuestBed", tang: TangServer, sink: Path, layout: str, firmware: str, layers: str, rungs: str
) -> None:
    bed = named(guest_bed, f"on-luks-{layout}", by(tang), sink, f'install.layout = "{layout}"; {firmware}')
    larger = {"VAULT_SIZE": "2600M"}
    size = "findmnt -b -n -o SIZE -M /"
    tang.start()
    try:
        bed.run("deploy")
        assert bed.ssh("vault", HOW).strip() == UNSEALED
        root = "$(findmnt -n -o SOURCE / | cut -d[ -f1)"
        assert bed.ssh("vault", f"lsblk -nspo TYPE {root}").split() == layers.split()
        assert bed.facts("vault")["layout"] == f"encrypted {layout}"
        before = int(bed.ssh("vault", size))
        told = " ".join(bed.run("deploy", check=True, **larger).stderr.split())
        assert "takes the new size without a passphrase when it is opened the next time" in told
        bed.run("reboot", "vault", check=True, **larger)
        assert bed.ssh("vault", HOW).strip() == UNSEALED
        planned = json.loads(bed.run("plan", "--json", check=False, **larger).stdout)["machines"][0]
        assert rungs in str(planned["disks in the guest"])
        bed.run("deploy", check=True, **larger)
        assert int(bed.ssh("vault", size)) > before + (300 << 20)
    finally:
        bed.run("destroy", "--yes", check=False)


@pytest.mark.weekly
@pytest.mark.parametrize("firmware", ["", 'efi = { storage = "local-lvm"; };'], ids=["seabios", "ovmf"])
def test_a_disk_is_opened_at_boot_by_the_tpm_which_gives_the_key_to_nobody_afterwards(
    guest_bed: "GuestBed", sink: Path, firmware: str
) -> None:
    bed = named(
        guest_bed,
        f"tpm-{'uefi' if firmware else 'bios'}",
        "tpm2 = { };",
        sink,
        f'tpm = {{ storage = "local-lvm"; }}; {firmware}',
    )
    decrypt = "clevis decrypt < /etc/nixops-proxmox/encryption/root.jwe >/dev/null 2>&1 && echo given || echo refused"
    try:
        told = bed.run("deploy").stderr
        assert "local-lvm has the first disk, too" in " ".join(told.split())
        assert bed.ssh("vault", HOW).strip() == UNSEALED
        assert bed.facts("vault")["luks"]["slots"] == "1 recovery, 2 tpm2 7+15"
        assert bed.ssh("vault", decrypt).strip() == "refused"
        before = bed.ssh("vault", BOOT)
        bed.run("reboot", "vault")
        assert bed.ssh("vault", BOOT) != before and bed.ssh("vault", HOW).strip() == UNSEALED
        bed.run("stop", "vault")
        with copied(bed, vmid := bed.facts("vault")["vmid"], copy := 9101):
            node = bed.node(vmid)
            bed.api("POST", f"/nodes/{node}/qemu/{copy}/status/start")
            wait_until_up(bed, copy)  # a clone carries the TPM, as the page of it says
            bed.api("POST", f"/nodes/{node}/qemu/{copy}/status/stop")
            bed.wait_until_off(copy)
            bed.set_config(copy, delete="tpmstate0")
            bed.api("POST", f"/nodes/{node}/qemu/{copy}/status/start")
            wait_until_asked(bed, copy)
    finally:
        bed.run("destroy", "--yes", check=False)


@pytest.mark.weekly
def test_a_disk_may_need_the_tpm_and_tang_at_once(guest_bed: "GuestBed", tang: TangServer, sink: Path) -> None:
    both = 'encryption.threshold = 2; tpm = { storage = "local-lvm"; };'
    bed = named(guest_bed, "tpm-and-tang", f"{by(tang)} tpm2 = {{ }}; tool = true;", sink, both)
    tang.start()
    try:
        bed.run("deploy")
        assert bed.ssh("vault", HOW).strip() == UNSEALED
        assert bed.facts("vault")["luks"]["slots"] == f"1 recovery, 2 2 of tang {tang.thumbprint} tpm2 7+15, 3 tool"
        tang.stop()
        bed.run("ssh", "vault", "--", "reboot")
        wait_until_asked(bed, bed.facts("vault")["vmid"])
        tang.start()
        bed.run("start", "vault")
        assert bed.ssh("vault", HOW).strip() == UNSEALED, "tang answers again"
    finally:
        bed.run("destroy", "--yes", check=False)
