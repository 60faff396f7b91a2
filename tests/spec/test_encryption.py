"""Encryption as described: what opens nothing, or nobody could recover, is refused with its option."""

import re
from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.nixops2.described import installed_by_nixops
from nixops_proxmox.spec import parse_machine, parse_network
from nixops_proxmox.spec.layouts import LayoutName
from tests.spec.build import options

THUMBPRINT = "K0gjBt2QS6ZG8hvedtdpnXLQ6F9oXqG4l_aGD9KNYJg"
OTHER = "HgIyC5oxulGdF7cIataSTWVsYgOeSBzMk2n0IPLfL9Y"
TANG = {"url": "http://192.0.2.5:7500/", "thumbprint": THUMBPRINT}
FOLDER = {"sink": {"folder": "/home/me/luks"}}
AGE = "age1" + "q" * 58
PATH = "web.deployment.proxmox"


def described(encryption: dict[str, Any], **more: Any) -> Any:
    return parse_machine("web", {"proxmox": options(encryption=encryption, **more)}).encryption


def test_one_tang_and_a_folder_are_enough() -> None:
    found = described({"unlock": {"tang": [TANG]}, "recovery": FOLDER})
    assert found.unlock.tang[0].url == "http://192.0.2.5:7500", "clevis puts its own slash behind it"
    assert found.unlock.sealed and found.threshold == 1
    assert described(None) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("encryption", "where", "why"),
    [
        ({"recovery": FOLDER}, "encryption.unlock", "nothing opens the disks"),
        ({"unlock": {"tool": True}}, "encryption.recovery.sink", "nothing says where the recovery key goes"),
        ({"unlock": {"tang": [{"url": TANG["url"]}]}, "recovery": FOLDER}, "tang[0].thumbprint", "must be set"),
        ({"unlock": {"tang": [{"thumbprint": OTHER}]}, "recovery": FOLDER}, "tang[0].url", "must be set"),
        ({"unlock": {"tang": [TANG | {"machine": "keeper"}]}, "recovery": FOLDER}, "tang[0].thumbprint", "no meaning"),
        ({"unlock": {"tang": [{"machine": "a"}, {"machine": "a"}]}, "recovery": FOLDER}, "unlock.tang", "they are one"),
        ({"unlock": {"tang": [TANG | {"thumbprint": "x"}]}, "recovery": FOLDER}, "tang[0].thumbprint", "SHA-256"),
        ({"unlock": {"tang": [TANG, TANG]}, "recovery": FOLDER}, "encryption.unlock.tang", "they are one"),
        ({"unlock": {"tang": [TANG]}, "threshold": 2, "recovery": FOLDER}, "threshold", "at most the number"),
        ({"unlock": {"tool": True}, "recovery": {"sink": {"folder": "luks"}}}, "sink.folder", "an absolute path"),
        ({"unlock": {"tool": True}, "recovery": {"sink": {"folder": "/nix/store/x"}}}, "sink.folder", "Nix store"),
        ({"unlock": {"tool": True}, "recovery": {"sink": {"folder": "/a", "none": True}}}, "sink", "only one of"),
        ({"unlock": {"tool": True}, "recovery": {"sink": {"none": True, "age": [AGE]}}}, "age", "no meaning"),
        ({"unlock": {"tool": True}, "recovery": {"sink": {"folder": "/a", "age": ["bob"]}}}, "sink.age", "age1"),
        ({"unlock": {"typed": True}, "recovery": {"sink": {"none": True}}}, "unlock.typed", "needs a recovery key"),
        (
            {"unlock": {"tool": True}, "recovery": {"sink": {"command": "pass insert"}, "header": True}},
            "encryption.recovery.header",
            "by $KIND",
        ),
        ({"unlock": {"tool": True}, "recovery": {"sink": {"none": True}, "header": True}}, "header", "needs a sink"),
        *(
            ({"unlock": {"tang": [TANG | {"url": url}]}, "recovery": FOLDER}, "tang[0].url", "expected")
            for url in ("192.0.2.5", "ftp://192.0.2.5", "http://me:pw@192.0.2.5", "http://a/?x", "http://a'b", "http://")
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(encryption: dict[str, Any], where: str, why: str) -> None:
    with pytest.raises(SpecError) as refused:
        described(encryption)
    (line,) = [line for line in refused.value.message.splitlines() if why in line] or [refused.value.message]
    assert why in line and where in line and line.startswith(f"{PATH}.encryption")


TPM = {"tpm": {"storage": "ceph"}}


@pytest.mark.parametrize(
    ("tpm2", "more", "why"),
    [
        ({}, {}, "unlock.tpm2: needs a TPM of the version v2.0"),
        ({}, {"tpm": {"storage": "ceph", "version": "v1.2"}}, "unlock.tpm2: needs a TPM of the version v2.0"),
        ({"pcrs": [7]}, TPM, "expected 15 among them"),
        ({"pcrs": [0, 15]}, TPM, "0 changes with PVE's firmware"),
        ({"pcrs": [4, 15]}, TPM, "4 is another one in the installer"),
        ({"pcrs": [11, 15]}, TPM, "11 changes with each new system"),
        ({"pcrs": [15, 23]}, TPM, "23 is none that a system boots by"),
        ({}, TPM | {"efi": {"storage": "ceph", "secureBootKeys": True}}, "tpm2.pcrs: PCR 7 tells who signed"),
    ],
)
def test_a_tpm_is_asked_only_for_what_stays_the_same_and_only_before_the_disk_is_open(
    tpm2: dict[str, Any], more: dict[str, Any], why: str
) -> None:
    with pytest.raises(SpecError, match=re.escape(why)):
        described({"unlock": {"tpm2": tpm2}, "recovery": FOLDER}, **more)


def test_a_tpm_whose_state_lies_beside_the_disk_is_warned_of() -> None:
    wanted = {"unlock": {"tpm2": {}}, "recovery": FOLDER}
    assert described(wanted, **TPM).unlock.tpm2.pcrs == (7, 15)
    near = {"proxmox": options(encryption=wanted, tpm={"storage": "local-lvm"})}
    (warning,) = parse_network("n", {"machines": {"web": near}}).warnings
    assert "web.deployment.proxmox.tpm.storage: local-lvm has the first disk, too" in warning
    far = {"proxmox": options(encryption=wanted, **TPM)}
    assert parse_network("n", {"machines": {"web": far}}).warnings == ()


def test_the_tpm_counts_as_one_of_those_of_whom_some_must_answer() -> None:
    both = {"unlock": {"tang": [TANG], "tpm2": {}}, "recovery": FOLDER}
    assert described(both | {"threshold": 2}, **TPM).unlock.parts == 2
    with pytest.raises(SpecError, match="at most the number of tang servers and the TPM, 2"):
        described(both | {"threshold": 3}, **TPM)


def test_two_of_two_servers_may_have_to_answer() -> None:
    assert described({"unlock": {"tang": [TANG, TANG | {"thumbprint": OTHER}]}, "threshold": 2, "recovery": FOLDER})


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"install": {"partition": "mkfs"}}, "install.partition is another one"),
        ({"install": {"method": "configuration"}}, "install.method must be closure"),
        ({"install": {"from": "image", "image": "local:import/a.raw"}}, "needs the installer"),
        ({"serialPort": False}, "types the key into the serial console"),
    ],
)
def test_it_needs_our_own_layout_and_a_way_to_type(more: dict[str, Any], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        described({"unlock": {"tool": True}, "recovery": FOLDER}, **more)


def test_the_first_stages_ssh_is_a_way_by_the_operators_own_key_and_needs_no_serial_console() -> None:
    found = described({"unlock": {"ssh": {}}, "recovery": FOLDER}, serialPort=False)
    assert found.unlock.ssh.port == 2222 and found.unlock.ours and not found.unlock.tool
    with pytest.raises(SpecError, match=r"unlock\.ssh\.port"):
        described({"unlock": {"ssh": {"port": 0}}, "recovery": FOLDER})


def test_a_data_disk_is_encrypted_where_the_root_is() -> None:
    disks = [{"storage": "local-lvm", "size": 8}, {"storage": "local-lvm", "size": 9, "encrypt": True}]
    assert described({"unlock": {"tool": True}, "recovery": FOLDER}, disks=disks)
    with pytest.raises(
        SpecError, match=r"web\.deployment\.proxmox\.disks: scsi1 has `encrypt`, which needs `encryption`"
    ):
        parse_machine("web", {"proxmox": options(disks=disks)})


@pytest.mark.parametrize("name", list(LayoutName))
def test_every_layout_may_lie_on_it(name: str) -> None:
    assert described({"unlock": {"tool": True}, "recovery": FOLDER}, install={"layout": name})


def test_who_writes_luks_for_a_layout_is_told_what_to_write() -> None:
    with pytest.raises(SpecError, match=r"web\.deployment\.proxmox\.install\.layout: LUKS .* expected `encryption`"):
        parse_machine("web", {"proxmox": options(install={"layout": "luks"})})


def test_nixops_2_which_builds_after_the_installation_refuses_it() -> None:
    machine = parse_machine("web", {"proxmox": options(encryption={"unlock": {"tool": True}, "recovery": FOLDER})})
    with pytest.raises(SpecError, match=r"web\.deployment\.proxmox\.encryption: needs the system"):
        installed_by_nixops(machine)
    assert installed_by_nixops(parse_machine("web", {"proxmox": options()})).install.method == "configuration"


KEEPERS = {
    "there is no machine keepr": {"vault": "keepr", "keeper": ""},
    "vault itself waits": {"vault": "vault", "keeper": ""},
    "keeper itself waits": {"vault": "keeper", "keeper": "vault"},
}


@pytest.mark.parametrize("why", KEEPERS)
def test_a_machine_that_serves_tang_is_there_and_needs_no_other_to_boot(why: str) -> None:
    by = {
        name: {"unlock": {"tang": [{"machine": one}]}, "recovery": FOLDER} for name, one in KEEPERS[why].items() if one
    }
    machines = {name: described_as(options(encryption=by.get(name))) for name in KEEPERS[why]}
    with pytest.raises(SpecError, match=why):
        parse_network("n", {"machines": machines})
    by = {"vault": {"unlock": {"tang": [{"machine": "keeper"}]}, "recovery": FOLDER}}
    machines = {name: described_as(options(encryption=by.get(name))) for name in ("vault", "keeper")}
    assert [one.name for one in parse_network("n", {"machines": machines}).machines] == ["vault", "keeper"]


def described_as(machine: dict[str, Any]) -> dict[str, Any]:
    return {"deployment": {"proxmox": machine}}
