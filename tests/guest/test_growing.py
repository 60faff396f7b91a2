"""A larger disk is taken into use rung by rung, and what hinders is said: on a model of what real tools tell."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixops_proxmox.errors import CommandFailed
from nixops_proxmox.guest.growing import find_block, foresee, grow, look
from nixops_proxmox.guest.layout import HEADER, look_script, parse_layout
from nixops_proxmox.model import Completed, GrownDisk
from tests.guest.disk_model import GIB, MIB, ModelDisk

LADDERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ext4 on a partition": (("part", "ext4"), ("partition 1", "ext4 /")),
    "xfs on a partition": (("part", "xfs"), ("partition 1", "xfs /")),
    "btrfs on a partition": (("part", "btrfs"), ("partition 1", "btrfs /")),
    "ext4 on the whole disk": (("ext4",), ("ext4 /",)),
    "ext4 on LVM": (("part", "pv", "lv", "ext4"), ("partition 1", "PV sda1", "LV vg/root", "ext4 /")),
    "ext4 on LUKS": (("part", "luks", "ext4"), ("partition 1", "LUKS cryptroot", "ext4 /")),
    "ext4 on LVM on LUKS": (
        ("part", "luks", "pv", "lv", "ext4"),
        ("partition 1", "LUKS cryptroot", "PV cryptroot", "LV vg/root", "ext4 /"),
    ),
    "swap": (("part", "swap"), ("partition 1", "swap sda1")),
    "ZFS on a partition": (("part", "zfs_member"), ("partition 1", "ZFS tank")),
}


def grown(disk: ModelDisk, size: int = 30 * GIB) -> GrownDisk:
    disk.size = size
    return grow(disk.run, "scsi0", "/dev/sda", size)


@pytest.mark.parametrize("name", LADDERS)
def test_every_layer_grows_from_the_bottom_to_the_file_system(name: str) -> None:
    layers, rungs = LADDERS[name]
    disk = ModelDisk(layers)
    told = foresee(look(disk.run), "scsi0", "/dev/sda")
    assert (told.rungs, told.hindrance, told.strange) == (rungs, "", ""), "the plan says what will grow"
    done = grown(disk)
    assert (done.rungs, done.hindrance) == (rungs, "")
    assert disk.sizes[layers[-1]] > 29 * GIB
    again = grow(disk.run, "scsi0", "/dev/sda", 30 * GIB)
    assert not again.hindrance and len(again.rungs) <= 1, "only a file system's own tool is asked once more"


@pytest.mark.parametrize("name", LADDERS)
def test_a_guest_without_udev_grows_as_well(name: str) -> None:
    layers, rungs = LADDERS[name]
    done = grown(ModelDisk(layers, udev=False))
    assert (done.rungs, done.hindrance) == (rungs, "")


@pytest.mark.parametrize("name", LADDERS)
def test_a_run_that_broke_off_at_any_rung_is_finished_by_the_next(name: str) -> None:
    layers, rungs = LADDERS[name]
    for after in range(len(rungs)):
        disk = ModelDisk(layers, stop_after=after)
        with pytest.raises(ConnectionResetError):
            grown(disk)
        disk.stop_after = -1
        assert grown(disk).hindrance == ""
        assert disk.sizes[layers[-1]] > 29 * GIB, after


HINDERED: dict[str, tuple[ModelDisk, str]] = {
    "another partition behind": (
        ModelDisk(("part", "ext4"), behind=("swap", GIB)),
        "partition 2 (swap) lies behind partition 1 (ext4), which therefore cannot grow",
    ),
    "an unknown partition behind": (
        ModelDisk(("part", "ext4"), behind=("", GIB)),
        "partition 2 (unknown content) lies behind partition 1 (ext4)",
    ),
    "a tool is missing": (ModelDisk(("part", "ext4"), lacks=("sfdisk",)), "lacks `sfdisk` (NixOS has it in `util-"),
    "the guest does not see it": (ModelDisk(("part", "ext4"), seen=20 * GIB), "still sees 20480 MiB of it; a restart"),
    "LUKS wants its passphrase": (
        ModelDisk(("part", "luks", "ext4"), failing={"grow-luks": "Nothing to read on input."}),
        "LUKS cryptroot did not grow: Nothing to read on input.; it takes the new size without a passphrase when it is"
        " opened the next time",
    ),
    "several logical volumes": (
        ModelDisk(("part", "pv", "lv", "ext4"), more={"home": "ext4"}),
        "the volume group vg has 2 logical volumes that can grow",
    ),
    "the tool says yes and does nothing": (
        ModelDisk(("part", "ext4"), lying=("grow-fs",)),
        "ext4 / has 19",
    ),
    "a partition that stays": (ModelDisk(("part", "ext4"), lying=("grow-partition",)), "partition 1 is still smaller"),
    "not mounted": (ModelDisk(("part", "ext4"), mounted=False), "ext4 on /dev/sda1 is not mounted"),
}


@pytest.mark.parametrize("name", HINDERED)
def test_what_hinders_is_said(name: str) -> None:
    disk, says = HINDERED[name]
    done = grown(replace(disk, sizes={}, calls=[], more=dict(disk.more)))
    assert says in done.hindrance


def test_nothing_is_done_to_a_disk_whose_last_partition_is_another() -> None:
    disk = replace(HINDERED["another partition behind"][0], sizes={})
    assert grown(disk).hindrance
    assert foresee(look(disk.run), "scsi0", "/dev/sda").hindrance, "the plan says it already"
    assert disk.calls == []


def test_a_volume_group_with_swap_beside_the_root_grows_the_root() -> None:
    disk = ModelDisk(("part", "pv", "lv", "ext4"), more={"swap": "swap"})
    assert grown(disk).rungs == ("partition 1", "PV sda1", "LV vg/root", "ext4 /")


def test_a_disk_that_zfs_has_whole_is_left_to_zfs() -> None:
    disk = ModelDisk(("part", "zfs_member"), behind=("reserved", 8 * MIB))
    assert foresee(look(disk.run), "scsi0", "/dev/sda").rungs == ("ZFS tank",)


@pytest.mark.parametrize("layers", [("part", "ntfs"), ("ceph_bluestore",), ("part", "vfat"), ("",)])
def test_what_is_unknown_is_left_alone(layers: tuple[str, ...]) -> None:
    disk = ModelDisk(layers)
    done = grown(disk)
    assert done.strange and not done.hindrance
    assert not [call for call in disk.calls if not call.startswith("grow-partition")]


def test_a_partition_table_of_the_old_kind_ends_at_2_tib() -> None:
    disk = ModelDisk(("part", "ext4"), table="dos")
    assert "2 TiB" in grown(disk, 3 << 40).hindrance


def test_mounts_with_strange_names_reach_the_shell_as_one_word() -> None:
    disk = ModelDisk(("ext4",))
    text = disk.told().replace('"/nix/store", "/"', '"/a b; reboot $(id)"').replace('"target": "/"', '"target": "/x"')
    (rung,) = [r for r in _rungs(text) if r.mount]
    assert "'/a b; reboot $(id)'" in rung.script.partition("\n")[0]


def _rungs(text: str) -> Any:
    from nixops_proxmox.guest.growing import find_ladder

    layout = parse_layout(text)
    disk = find_block(layout, "/dev/sda")
    assert disk is not None
    return find_ladder(layout, disk).rungs


HOSTILE = [
    "",
    f"{HEADER} lsblk\n[]\n{HEADER} end\n",
    f"{HEADER} lsblk\n{{}}\n{HEADER} end\n",
    ModelDisk(("part", "ext4")).told().replace("sda1", "sda1; reboot"),
    ModelDisk(("part", "ext4")).told().replace('"size": "', '"size": "-'),
    ModelDisk(("part", "ext4")).told().replace(f"{HEADER} end", ""),
    f'{HEADER} lsblk\n{{"blockdevices": [{{"name": "sda", "size": 1e999}}]}}\n{HEADER} end\n',
    f"{HEADER} lsblk\n" + '{"blockdevices":' + "[" * 100_000 + f"\n{HEADER} end\n",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_guest_that_tells_nonsense_is_refused(text: str) -> None:
    with pytest.raises(CommandFailed):
        parse_layout(text)


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)))
def test_any_value_in_any_place_is_refused_or_read(value: Any) -> None:
    told = ModelDisk(("part", "luks", "pv", "lv", "ext4")).told()
    for key in ("size", "name", "children", "target", "pv_size", "start", "node"):
        text = told.replace(f'"{key}": ', f'"{key}": {json.dumps(value)}, "was {key}": ')
        try:
            layout = parse_layout(text)
            disk = find_block(layout, "/dev/sda")
            if disk is not None:
                foresee(layout, "scsi0", "/dev/sda")
        except CommandFailed:
            pass


def test_a_guest_that_cannot_tell_is_an_error() -> None:
    with pytest.raises(CommandFailed, match="could not tell"):
        look(lambda _: Completed(1, "", "lsblk: not found"))


def test_only_the_act_makes_the_kernel_look_again() -> None:
    assert "device/rescan" in look_script(rescan=True) and "device/rescan" not in look_script()
