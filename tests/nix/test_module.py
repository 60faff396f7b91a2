"""The NixOS module, evaluated by the real lib: what it makes of options, and that it leaves other machines alone."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.spec import parse_machine, parse_network
from nixops_proxmox.spec.layouts import LAYOUTS, LayoutName
from nixops_proxmox.spec.serials import derived_serial, disk_path
from tests.nix.conftest import ROOT, Evaluate

pytestmark = pytest.mark.nix

Machine = Callable[..., Any]

DISK = '{ storage = "local-lvm"; size = 8; }'


@pytest.fixture
def machine(evaluate: Evaluate, real_lib: Path) -> Machine:
    def run(options: str, **arguments: str) -> Any:
        module = f"{{ deployment.proxmox = {{ {options} }}; }}"
        search = [f"nixpkgs-lib={real_lib}"]
        return evaluate(ROOT / "tests" / "nix" / "machine.nix", {"machine": module, **arguments}, search=search)

    return run


def test_a_machine_of_another_backend_is_left_alone(machine: Machine) -> None:
    done = machine("", targetEnv='"libvirtd"')
    assert {name: done[name] for name in done["plain"]} == done["plain"]
    assert done["warnings"] == []


def test_another_user_than_root_may_log_in_and_become_root(machine: Machine) -> None:
    done = machine(f'disks = [ {DISK} ]; ssh = {{ user = "deploy"; authorizedKeys = [ "ssh-ed25519 AAAA me" ]; }};')
    assert done["failed"] == []
    user = done["users"]["users"]["deploy"]
    assert user["isNormalUser"] and user["openssh"]["authorizedKeys"]["keys"] == ["ssh-ed25519 AAAA me"]
    rule = {"groups": [], "users": ["deploy"], "commands": [{"command": "ALL", "options": ["NOPASSWD"]}]}
    assert done["security"]["sudo"]["extraRules"][-1] == rule
    assert user["extraGroups"] == ["wheel"]
    assert done["nix"] == {"settings": {"trusted-users": ["deploy"]}}
    assert done["users"]["users"]["root"]["openssh"]["authorizedKeys"]["keys"] == []


@pytest.mark.parametrize(
    ("said", "logs_in"),
    [("", "deploy"), ('ssh.user = "other";', "other"), ('ssh.user = "root";', "root")],
    ids=["nothing", "other", "root"],
)
def test_nixops_own_word_for_the_user_counts_where_ours_is_not_said(machine: Machine, said: str, logs_in: str) -> None:
    done = machine(f"disks = [ {DISK} ]; {said}", targetEnv='"proxmox"', targetUser='"deploy"')
    assert done["failed"] == []
    assert done["exported"]["ssh"]["user"] == logs_in
    assert done["nix"] == ({} if logs_in == "root" else {"settings": {"trusted-users": [logs_in]}})


def test_sudo_may_be_the_users_own_affair_but_must_be_there(machine: Machine) -> None:
    options = f'disks = [ {DISK} ]; ssh.user = "deploy"; guest.sudo = false;'
    rule = '{ users = [ "deploy" ]; commands = [ { command = "ALL"; options = [ "NOPASSWD" ]; } ]; }'
    free = f"{{ security.sudo.extraRules = [ {rule} ]; }}"
    own = machine(options, more=free)
    assert own["failed"] == []
    assert len(own["security"]["sudo"]["extraRules"]) == 3
    (message,) = machine(options, more="{ security.sudo.enable = false; }")["failed"]
    assert message.startswith("security.sudo.enable is off, and deploy, whom deployment.proxmox.ssh.user names")


@pytest.mark.parametrize("target", ["null", '"proxmox"'])
def test_a_machine_of_ours_can_be_reached_and_watched(machine: Machine, target: str) -> None:
    done = machine(
        f'disks = [ {DISK} ]; ssh.authorizedKeys = [ "ssh-ed25519 AAAA me" ]; ssh.port = 2022;', targetEnv=target
    )
    assert done["services"]["qemuGuest"] == {"enable": True}
    assert done["failed"] == []
    assert done["services"]["openssh"]["settings"]["PasswordAuthentication"] is False
    assert done["services"]["openssh"]["ports"] == [2022]
    assert done["users"]["users"]["root"]["openssh"]["authorizedKeys"]["keys"] == ["ssh-ed25519 AAAA me"]
    assert done["boot"]["kernelParams"][-1] == "console=ttyS0,115200n8"
    assert "virtio_scsi" in done["boot"]["initrd"]["availableKernelModules"]


def test_the_guest_has_what_is_not_switched_off(machine: Machine) -> None:
    off = ["hardware", "agent", "ssh", "serialConsole", "network", "layout", "bootLoader"]
    done = machine(f"disks = [ {DISK} ]; " + " ".join(f"guest.{name} = false;" for name in off))
    assert {name: done[name] for name in done["plain"]} == done["plain"]


def test_static_addresses_are_given_to_the_nic_with_the_mac(machine: Machine) -> None:
    done = machine(
        """
        disks = [ ];
        network = [
          { bridge = "vmbr0"; mac = "BC:24:11:00:00:01"; ipv4 = { address = "10.0.0.2/24"; gateway = "10.0.0.1"; };
            ipv6 = { address = "fd00::2"; prefix = 64; gateway = "fe80::1"; }; }
          { bridge = "vmbr1"; }
        ];
        """
    )
    first, second = (done["network"]["networks"][f"00-proxmox-net{n}"] for n in (0, 1))
    assert first["matchConfig"] == {"MACAddress": "bc:24:11:00:00:01"}
    assert first["address"] == ["10.0.0.2/24", "fd00::2/64"]
    assert [route["Gateway"] for route in first["routes"]] == ["10.0.0.1", "fe80::1"]
    assert (first["networkConfig"]["DHCP"], first["networkConfig"]["IPv6AcceptRA"]) == ("no", False)
    assert second["matchConfig"] == {"Name": "en*s19"}
    assert (second["networkConfig"]["DHCP"], second["networkConfig"]["IPv6AcceptRA"]) == ("ipv4", True)
    assert done["network"]["enable"]
    assert not done["networking"]["useDHCP"]
    assert not done["networking"]["useNetworkd"], "it would change what scripted interfaces mean"


def test_a_static_address_comes_with_the_mac_from_a_list(machine: Machine) -> None:
    nic = """{ bridge = "vmbr0"; pool = "campus"; ipv6 = "none";
               ipv4 = { method = "static"; prefix = 24; gateway = "10.0.0.1"; }; }"""
    taken = 'guest.taken.net0 = { mac = "DE:AD:BE:EF:00:01"; ipv4 = "10.0.0.2"; ipv6 = "fd00::2"; };'
    done = machine(f"disks = [ ]; network = [ {nic} ]; {taken}")
    unit = done["network"]["networks"]["00-proxmox-net0"]
    assert unit["matchConfig"] == {"MACAddress": "de:ad:be:ef:00:01"}
    assert (unit["address"], unit["networkConfig"]["DHCP"]) == (["10.0.0.2/24"], "no")
    unknown = machine(f"disks = [ ]; network = [ {nic} ];")["network"]["networks"]["00-proxmox-net0"]
    assert (unknown["address"], unknown["matchConfig"]) == ([], {"Name": "en*s18"})


def test_dynamic_addresses_are_left_to_the_system(machine: Machine) -> None:
    done = machine('disks = [ ]; network = [ { bridge = "vmbr0"; } ];')
    assert (done["network"], done["networking"]["useDHCP"]) == ({"enable": False, "links": {}, "networks": {}}, True)


def test_a_nic_without_a_mac_and_without_a_known_place_is_refused(machine: Machine) -> None:
    done = machine('network.net9 = { bridge = "vmbr0"; ipv4 = "10.0.0.2/24"; };')
    assert any("net9 needs a mac" in message for message in done["failed"])


def test_the_default_layout_boots_by_bios(machine: Machine) -> None:
    done = machine(f"disks = [ {DISK} ];")
    (root,) = done["fileSystems"].items()
    assert (root[0], root[1]["device"], root[1]["fsType"]) == ("/", "/dev/disk/by-label/nixos", "ext4")
    assert done["loader"]["grub"]["devices"] == ["/dev/sda"]


def test_the_default_layout_boots_by_uefi(machine: Machine) -> None:
    done = machine(f'disks = [ {DISK} ]; efi.storage = "local";')
    assert done["exported"]["bios"] == "ovmf"
    assert done["fileSystems"]["/boot"]["device"] == "/dev/disk/by-label/ESP"
    assert (done["loader"]["systemd-boot"]["enable"], done["loader"]["grub"]["enable"]) == (True, False)


@pytest.mark.parametrize("firmware", ["", 'efi.storage = "local";'])
@pytest.mark.parametrize("name", list(LayoutName))
def test_a_layout_by_name_brings_the_file_systems_of_the_table(
    machine: Machine, name: LayoutName, firmware: str
) -> None:
    nic = 'network = [ { bridge = "vmbr0"; } ];'
    done = machine(f'disks = [ {DISK} ]; {nic} install.layout = "{name}"; {firmware}')
    layout = LAYOUTS[name]
    wanted = {mount.place: (f"/dev/disk/by-label/{mount.label}", mount.kind) for mount in layout.mounts}
    if firmware:
        wanted["/boot"] = ("/dev/disk/by-label/ESP", "vfat")
    elif layout.apart:
        wanted["/boot"] = ("/dev/disk/by-label/boot", "ext4")
    found = done["fileSystems"]
    assert {place: (system["device"], system["fsType"]) for place, system in found.items()} == wanted
    assert all(set(mount.options) <= set(found[mount.place]["options"]) for mount in layout.mounts)
    initrd = done["boot"]["initrd"]
    assert (set(layout.modules) <= set(initrd["kernelModules"]), initrd["services"]["lvm"]["enable"]) == (
        True,
        layout.lvm,
    )
    assert done["failed"] == []
    spec = parse_machine("web", {"proxmox": done["exported"]})
    assert spec.install.layout is name


def test_a_layout_beside_disko_or_a_script_is_refused(machine: Machine) -> None:
    for other, more in (("disko.devices", {"withDisko": "true"}), ("install.partition", {})):
        script = "" if more else 'install.partition = "true";'
        (message,) = machine(f'disks = [ {DISK} ]; install.layout = "lvm"; {script}', **more)["failed"]
        assert message.startswith(f"deployment.proxmox.install.layout has no meaning with {other}")


def test_a_partition_script_brings_its_own_file_systems(machine: Machine) -> None:
    assert machine(f'disks = [ {DISK} ]; install.partition = "true";')["fileSystems"] == {}


def test_disks_have_stable_paths_when_they_have_serials(machine: Machine) -> None:
    done = machine(
        """
        disks = [
          { storage = "a1"; size = 8; serial = "root"; }
          { storage = "a1"; size = 8; bus = "virtio"; serial = "data"; }
          { storage = "a1"; size = 8; }
          { storage = "a1"; size = 8; bus = "sata"; serial = "old"; }
        ];
        """
    )
    assert done["devices"] == {
        "scsi0": "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_root",
        "virtio0": "/dev/disk/by-id/virtio-data",
        "scsi1": None,
        "sata0": "/dev/disk/by-id/ata-QEMU_HARDDISK_old",
    }
    assert done["loader"]["grub"]["devices"] == ["/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_root"]


@pytest.mark.parametrize("base", ["shop/web", "Shop/WEB", "8c7f6d1e-0000-4000-8000-000000000001"])
def test_a_disk_without_a_serial_is_known_by_the_one_that_will_be_derived(machine: Machine, base: str) -> None:
    bare = '{ storage = "a1"; size = 8; }'
    buses = f'{bare} {{ storage = "a1"; size = 8; bus = "virtio"; }} {{ storage = "a1"; size = 8; bus = "sata"; }}'
    done = machine(f'disks = [ {bare} {buses} ]; guest.serialsFrom = "{base}";')
    expected = {slot: disk_path(slot, derived_serial(base, slot)) for slot in ("scsi0", "scsi1", "virtio0", "sata0")}
    assert done["devices"] == expected
    assert done["loader"]["grub"]["devices"] == [expected["scsi0"]]


@pytest.mark.parametrize("told", ["", 'guest.serialsFrom = "";'])
def test_a_disk_that_may_have_no_serial_has_no_stable_path(machine: Machine, told: str) -> None:
    done = machine(f'disks = [ {{ storage = "a1"; size = 8; }} ]; {told}')
    assert (done["devices"], done["loader"]["grub"]["devices"]) == ({"scsi0": None}, ["/dev/sda"])


def test_disks_are_named_by_their_serials_whatever_qemu_tells_udev(machine: Machine) -> None:
    """In both stages, before GRUB is written, and at a switch."""
    rules = (ROOT / "nix" / "disk-links.rules").read_text()
    script = (ROOT / "nix" / "disk-links.sh").read_text()
    done = machine("disks = [ ];")
    assert (done["rules"], done["links"]) == ([rules, rules], [script, script])
    done = machine("disks = [ ]; guest.hardware = false;")
    assert (done["rules"], done["links"]) == (["", ""], ["", ""])


def test_slots_are_those_of_the_specification(machine: Machine) -> None:
    buses = ["", 'bus = "virtio";', 'slot = "scsi1";', "", 'bus = "virtio";', 'bus = "sata";']
    done = machine(
        "disks = [ "
        + " ".join(f'{{ storage = "a1"; size = 1; {bus} }}' for bus in buses)
        + ' ]; network = [ { bridge = "b"; } ];'
    )
    spec = parse_machine("web", {"proxmox": done["exported"]})
    assert sorted(done["devices"]) == sorted(disk.slot for disk in spec.disks)


def test_diskos_devices_win_over_a_script(machine: Machine) -> None:
    kept = '{ storage = "a1"; size = 8; serial = "data"; keep = true; }'
    done = machine(f'disks = [ {DISK} {kept} ]; install.partition = "mine";', withDisko="true")
    script = done["exported"]["install"]["partition"]
    assert re.search("^empty '?/dev/sda'?$", script, re.MULTILINE), "a disk to keep is not wiped"
    assert "disko-makes\nDISKO_SCRIPT\n" in script and "disko-mounts\nDISKO_SCRIPT\n" in script
    assert "mine" not in script
    assert done["fileSystems"]["/"]["device"] == "/dev/disk/by-partlabel/disk-main-root", "disko says what they are"


def test_a_reinstall_makes_nothing_of_diskos_on_a_disk_to_keep(machine: Machine) -> None:
    kept = '{ storage = "a1"; size = 8; serial = "data"; keep = true; }'
    made = '{ disko.devices = { _create = "makes-root; makes-data"; disk.data._create = "makes-data"; }; }'
    done = machine(f"disks = [ {DISK} {kept} ];", withDisko="true", more=made)
    script = done["exported"]["install"]["partition"]
    first, again = script.split('cat >"$again"')
    assert "makes-root; makes-data\n" in first and "makes-data" not in again and "makes-root" in again
    assert '[ -z "$REINSTALL" ] || create=$again' in again
    assert re.search(r"""^\[ -n "\$REINSTALL" \] \|\| declared '?/dev/disk/by-id/\S+_data'?$""", first, re.MULTILINE)


OLD = """
  disks = [ { volume = "local-lvm"; size = "20G"; enableSSDEmulation = true; enableDiscard = false; } ];
  network = [ { bridge = "vmbr0"; ip.v4 = { address = "10.0.0.2"; prefixLength = "24"; gateway = "10.0.0.1"; };
                ip.v6.address = "auto"; } ];
  uefi = { enable = true; volume = "local"; };
  nbCpus = 1; nbCores = 2; cpuType = "kvm64"; cpuLimit = 2; memory = 1024;
  startOnBoot = true; protectVM = false; hotplugFeatures = "disk"; partitions = "true"; installISO = "local:iso/x.iso";
  usePrivateIPAddress = true; verifySSL = false; arch = "aarch64";
"""


def test_the_old_names_still_work_and_their_new_ones_are_told(machine: Machine) -> None:
    done = machine(OLD)
    spec = parse_machine("web", {"proxmox": done["exported"]})
    assert (spec.cpu.sockets, spec.cpu.cores, spec.cpu.limit, spec.onboot, spec.protection) == (1, 2, 2, True, False)
    assert (spec.disks[0].storage, spec.disks[0].ssd, spec.disks[0].discard) == ("local-lvm", True, False)
    assert (str(spec.network[0].ipv4.address), spec.network[0].ipv4.prefix) == ("10.0.0.2", 24)
    assert spec.network[0].ipv6.method == "auto"
    assert (spec.bios, spec.efi and spec.efi.storage, spec.endpoint.reaches) == ("ovmf", "local", ("private",))
    assert (spec.install.partition, spec.install.iso) == ("true", "local:iso/x.iso")
    assert done["hostPlatform"] == "aarch64-linux"
    assert "deployment.proxmox.nbCores is now called deployment.proxmox.cpu.cores" in done["warnings"]
    assert any("verifySSL has no effect" in warning for warning in done["warnings"])


def test_what_is_exported_has_no_old_names_and_nothing_unset(machine: Machine) -> None:
    exported = machine(OLD)["exported"]
    assert set(exported) == {
        "agent", "arch", "bios", "cpu", "deploy", "disks", "efi", "endpoint", "extra", "hotplug", "ignore", "install",
        "kind", "memory", "network", "onboot", "placement", "profile", "protection", "serialPort", "ssh", "tags",
        "volumes",
    }  # fmt: skip
    assert set(exported["disks"][0]) == {"storage", "size", "ssd", "discard", "keep", "encrypt"}
    assert set(exported["network"][0]) == {"bridge", "model", "trunks", "ipv4", "ipv6", "dns", "search"}


def test_the_old_and_the_new_name_cannot_say_different_things(machine: Machine) -> None:
    with pytest.raises(AssertionError, match="conflicting definition values"):
        machine("nbCores = 2; cpu.cores = 3;")


def test_a_secret_is_refused_without_being_repeated(machine: Machine) -> None:
    (message,) = machine(f'disks = [ {DISK} ]; password = "hunter2";')["failed"]
    assert "deployment.proxmox.password is a secret" in message
    assert "hunter2" not in message


def test_a_wrong_type_is_refused_with_the_options_name(machine: Machine) -> None:
    with pytest.raises(AssertionError, match=r"deployment\.proxmox\.vmid"):
        machine('vmid = "142";')


ENCRYPTED = """
encryption = {
  unlock.tang = [ { url = "http://192.0.2.5"; thumbprint = "K0gjBt2QS6ZG8hvedtdpnXLQ6F9oXqG4l_aGD9KNYJg"; } ];
  recovery.sink.folder = "/home/me/luks";
};
"""


def test_an_encrypted_root_is_opened_in_the_first_stage_by_a_key_that_nix_never_sees(machine: Machine) -> None:
    static = 'network.net0 = { bridge = "vmbr0"; ipv4 = "192.0.2.9/24"; dns = [ "192.0.2.1" ]; };'
    done = machine(f"disks = [ {DISK} ]; {static} {ENCRYPTED}")
    assert done["failed"] == []
    assert {place: system["device"] for place, system in done["fileSystems"].items()} == {
        "/": "/dev/mapper/root",
        "/boot": "/dev/disk/by-label/boot",
    }
    initrd = done["boot"]["initrd"]
    assert initrd["luks"]["devices"]["root"]["device"] == "/dev/disk/by-partlabel/nixos-luks"
    assert initrd["luks"]["devices"]["root"]["crypttabExtraOpts"] == ["tries=0"]
    assert initrd["clevis"] == {
        "enable": True,
        "useTang": True,
        "devices": {"root": {"secretFile": "/etc/nixops-proxmox/encryption/root.jwe"}},
    }
    assert initrd["systemd"]["enable"] and initrd["network"]["enable"]
    assert initrd["systemd"]["network"]["networks"]["00-proxmox-net0"]["address"] == ["192.0.2.9/24"]
    assert parse_machine("web", {"proxmox": done["exported"]}).encryption is not None


def test_without_tang_the_first_stage_has_no_network(machine: Machine) -> None:
    typed = 'encryption = { unlock.tool = true; recovery.sink.command = "pass insert -m luks"; };'
    done = machine(f"disks = [ {DISK} ]; {typed}")
    assert done["failed"] == []
    assert not done["boot"]["initrd"]["network"]["enable"] and not done["boot"]["initrd"]["clevis"]["enable"]
    assert done["boot"]["initrd"]["systemd"]["enable"]


def test_the_first_stage_has_an_ssh_server_with_a_host_key_of_its_own_that_nix_never_sees(machine: Machine) -> None:
    by_ssh = 'encryption = { unlock.ssh = { port = 2022; }; recovery.sink.folder = "/home/me/luks"; };'
    done = machine(f'disks = [ {DISK} ]; network = [ {{ bridge = "vmbr0"; }} ]; {by_ssh}')
    assert done["failed"] == []
    initrd = done["boot"]["initrd"]
    assert initrd["network"]["enable"] and initrd["systemd"]["network"]["enable"]
    assert initrd["network"]["ssh"] == {
        "enable": True,
        "port": 2022,
        "hostKeys": ["/etc/nixops-proxmox/encryption/ssh_host_ed25519_key"],
        "authorizedKeys": ["# those of the deployment"],
    }
    assert initrd["secrets"] == {"/etc/ssh/authorized_keys.d/root": "/etc/nixops-proxmox/encryption/authorized_keys"}
    program = initrd["systemd"]["contents"]["/etc/nixops-proxmox/reply-password"]["text"].strip()
    assert program in initrd["systemd"]["storePaths"] and program.endswith("/systemd-reply-password")
    (message,) = machine(f"disks = [ {DISK} ]; {by_ssh}", more="{ boot.initrd.systemd.enable = false; }")["failed"]
    assert "unlock.ssh needs systemd's first stage" in message
    spec = parse_machine("web", {"proxmox": done["exported"]}).encryption
    assert spec is not None and spec.unlock.ssh is not None and spec.unlock.ssh.port == 2022


BY_TPM = 'tpm.storage = "ceph"; encryption = { unlock.tpm2 = { }; recovery.sink.folder = "/home/me/luks"; };'


def test_the_tpm_is_asked_in_the_first_stage_which_then_locks_it_before_the_root_is_mounted(machine: Machine) -> None:
    """`hashString` and the lab's stand-in (`unlock`) extend it by the same."""
    nic = 'network = [ { bridge = "vmbr0"; } ];'
    done = machine(f"disks = [ {DISK} ]; {nic} {BY_TPM}")
    assert done["failed"] == []
    initrd = done["boot"]["initrd"]
    assert not initrd["network"]["enable"] and not initrd["clevis"]["useTang"]
    assert initrd["clevis"]["devices"]["root"]["secretFile"] == "/etc/nixops-proxmox/encryption/root.jwe"
    assert {"tpm_tis", "tpm_crb"} <= set(initrd["availableKernelModules"])
    lock = initrd["systemd"]["services"]["nixops-proxmox-lock-tpm"]
    assert lock["after"] == ["systemd-cryptsetup@root.service"] and "sysroot.mount" in lock["before"]
    assert lock["requiredBy"] == ["sysroot.mount"]
    digest = hashlib.sha256(b"nixops-proxmox: the root disk is open").hexdigest()
    assert lock["script"].endswith(f"/bin/tpm2_pcrextend 15:sha256={digest}")
    assert [lock["script"].split()[0]] == initrd["systemd"]["storePaths"]
    (message,) = machine(f"disks = [ {DISK} ]; {BY_TPM}", more="{ boot.initrd.systemd.enable = false; }")["failed"]
    assert "needs systemd's first stage, which locks the TPM" in message
    assert parse_machine("web", {"proxmox": done["exported"]}).encryption is not None


def test_the_running_system_opens_its_data_disks_with_keys_on_the_root_that_nix_never_sees(machine: Machine) -> None:
    data = '{ storage = "local-lvm"; size = "9G"; encrypt = true; discard = true; }'
    plain = '{ storage = "local-lvm"; size = "9G"; }'
    done = machine(f'disks = [ {DISK} {plain} {data} ]; network = [ {{ bridge = "vmbr0"; }} ]; {ENCRYPTED}')
    assert done["failed"] == []
    assert done["crypttab"] == (
        "scsi2 /dev/disk/by-label/nixos-scsi2 /etc/nixops-proxmox/encryption/scsi2.key luks,nofail,discard\n"
    )
    assert done["encrypted"] == {"scsi2": "/dev/mapper/scsi2"}
    assert [disk.encrypt for disk in parse_machine("web", {"proxmox": done["exported"]}).disks] == [False, False, True]


def test_with_uefi_the_boot_partition_is_that_of_the_firmware(machine: Machine) -> None:
    done = machine(f'disks = [ {DISK} ]; efi.storage = "local-lvm"; {ENCRYPTED}')
    assert done["fileSystems"]["/boot"]["device"] == "/dev/disk/by-label/ESP"
    assert done["fileSystems"]["/"]["device"] == "/dev/mapper/root"


@pytest.mark.parametrize(
    ("layout", "devices"),
    [("lvm", {"/": "/dev/mapper/nixos-root"}), ("btrfs", dict.fromkeys(("/", "/home", "/nix"), "/dev/mapper/root"))],
)
def test_any_layout_may_lie_on_an_encrypted_root(machine: Machine, layout: str, devices: dict[str, str]) -> None:
    """By the mapper's names: a label may be that of any disk, and the open volume is only one."""
    done = machine(f'disks = [ {DISK} ]; install.layout = "{layout}"; {ENCRYPTED}')
    assert done["failed"] == []
    found = {place: system["device"] for place, system in done["fileSystems"].items()}
    assert found == devices | {"/boot": "/dev/disk/by-label/boot"}
    initrd = done["boot"]["initrd"]
    assert initrd["luks"]["devices"]["root"]["device"] == "/dev/disk/by-partlabel/nixos-luks"
    assert initrd["services"]["lvm"]["enable"] is (layout == "lvm")


def test_luks_is_no_layout_and_the_error_says_what_to_write(machine: Machine) -> None:
    with pytest.raises(AssertionError, match=r"install\.layout = .luks.: LUKS is not a layout .*encryption"):
        machine(f'disks = [ {DISK} ]; install.layout = "luks";')


def test_a_machine_without_encryption_has_nothing_of_it(machine: Machine) -> None:
    initrd = machine(f"disks = [ {DISK} ];")["boot"]["initrd"]
    assert initrd["luks"]["devices"] == {} and not initrd["clevis"]["enable"] and not initrd["systemd"]["enable"]
    assert machine(f"disks = [ {DISK} ];")["crypttab"] == ""


CONTAINER = """
  kind = "container";
  network = [ { bridge = "vmbr0"; ipv4 = "10.0.0.2/24"; } ];
  container = { template = "local:vztmpl/nixos.tar.xz"; root = { storage = "local-lvm"; size = 8; }; };
"""


def test_a_container_has_no_kernel_no_loader_and_the_network_that_pve_writes(machine: Machine) -> None:
    done = machine(CONTAINER)
    assert done["failed"] == []
    assert done["boot"]["isContainer"] and not done["loader"]["grub"]["enable"]
    assert done["fileSystems"] == {} and done["network"]["networks"] == {}
    assert done["services"]["openssh"]["enable"] and not done["services"]["qemuGuest"]["enable"]
    assert done["networking"]["hostName"] == "" and done["networking"]["useDHCP"] is False
    assert parse_machine_of(done).container is not None


def parse_machine_of(done: Any) -> Any:
    network = parse_network("n", {"machines": {"web": {"proxmox": done["exported"]}}})
    return network.machines[0]


REFUSED = {
    "a kernel": ("boot.isContainer = false;", CONTAINER, "boot.isContainer is off"),
    "nothing to be made of": ("", 'kind = "container"; network = [ { bridge = "vmbr0"; } ];', "container must be set"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_container_that_could_not_be_is_refused(machine: Machine, what: str) -> None:
    more, options, why = REFUSED[what]
    assert any(why in one for one in machine(options, more=f"{{ {more} }}")["failed"])
