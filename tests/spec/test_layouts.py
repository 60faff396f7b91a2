"""The shell text before disks are laid out: it refuses what must not be written, before anything is."""

import subprocess
from pathlib import Path

import pytest

from nixops_proxmox.spec.layouts import EMPTY, LAYOUTS, LayoutName, layout_script
from tests.pace import patience

# lsblk's answers: two disks, a RAID or a pool over both, and a volume group or a pool over the second and a third.
LSBLK = """\
#!/bin/sh
case "$*" in
  *-nrpso*vg-data*) echo "/dev/mapper/vg-data lvm"; echo "$T/b disk"; echo "$T/c disk" ;;
  *-nrpso*md0*) echo "/dev/md0 raid1"; echo "$T/a disk"; echo "$T/b disk" ;;
  *-nrpso*[abc]1) one=${*##* }; echo "${one%1} disk" ;;
  *) [ -z "$POOL" ] || for one in a b; do echo "$T/$one disk"; echo "$T/${one}1 part zfs_member"; done
     [ -z "$RAID" ] || for one in a b; do
       echo "$T/$one disk"; echo "$T/${one}1 part linux_raid_member"; echo "/dev/md0 raid1"
     done
     [ -z "$VG" ] || { echo "$T/b disk"; echo "$T/b1 part LVM2_member"; echo "/dev/mapper/vg-data lvm ext4"; }
     [ -n "$RAID$VG$POOL" ] || echo "$T/a disk" ;;
esac
"""
ZPOOL = """\
#!/bin/sh
echo "zpool $*" >> "$T/calls"
[ "$1" != list ] || for pool in other $POOL; do
  printf '%s\\t1.9G\\t-\\n' "$pool"
  [ "$pool" = other ] && parts=c1 || parts=$PARTS
  for part in $parts; do printf '\\tmirror-0\\t-\\n\\t%s\\t1.9G\\t-\\n' "$T/$part"; done
done
"""
LOOKED = ["zpool import -aNf -o readonly=on", "zpool list -HvPL", "zpool export -af"]


def run(folder: Path, script: str, **environment: str) -> tuple[int, list[str], str]:
    """Exit status; what was called, a line each; what was said. Every tool that writes only notes its call."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("wipefs", "sgdisk", "dmsetup", "mdadm"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$T/calls"\n')
    (tools / "lsblk").write_text(LSBLK)
    (tools / "zpool").write_text(ZPOOL)
    for tool in tools.iterdir():
        tool.chmod(0o755)
    for disk in "abcd":
        (folder / disk).touch()
    given = {"PATH": f"{tools}:/usr/bin:/bin", "T": str(folder), "KEEP": ""}
    given |= {"RAID": "", "VG": "", "POOL": "", "PARTS": ""}
    given |= {"DISKS": f"{folder}/a {folder}/b", "DISK_scsi0": f"{folder}/a", "DISK_scsi1": f"{folder}/b"}
    argv = ["sh", "-eu", "-c", EMPTY + script]
    done = subprocess.run(argv, env=given | environment, capture_output=True, text=True, timeout=patience(60))
    calls = folder / "calls"
    return done.returncode, calls.read_text().splitlines() if calls.exists() else [], done.stderr


def test_a_disk_is_wiped(tmp_path: Path) -> None:
    status, calls, _ = run(tmp_path, 'empty "$T/a"')
    assert (status, calls) == (0, [f"wipefs -af {tmp_path}/a", f"sgdisk --zap-all {tmp_path}/a"])


def test_a_raid_is_assembled_wiped_and_stopped_before_its_disks_are_wiped(tmp_path: Path) -> None:
    status, calls, _ = run(tmp_path, 'empty "$T/a" "$T/b"', RAID="1")
    assert status == 0
    assert calls[:3] == ["mdadm --quiet --assemble --scan", "wipefs -af /dev/md0", "mdadm --quiet --stop /dev/md0"]
    assert {f"sgdisk --zap-all {tmp_path}/{disk}" for disk in "ab"} < set(calls)


def test_a_pool_is_let_go_before_its_disks_are_wiped(tmp_path: Path) -> None:
    status, calls, _ = run(tmp_path, 'empty "$T/a" "$T/b"', POOL="tank", PARTS="a1 b1")
    assert (status, calls[:3]) == (0, LOOKED)
    assert {f"zpool labelclear -f {tmp_path}/{part}" for part in ("a1", "b1")} < set(calls)
    assert {f"wipefs -af {tmp_path}/{part}" for part in ("a1", "b1", "a", "b")} < set(calls)


def test_a_pool_that_lies_on_another_disk_too_is_refused_and_let_go(tmp_path: Path) -> None:
    status, calls, told = run(tmp_path, 'empty "$T/b"', POOL="tank", PARTS="b1 c1")
    assert (status, calls) == (1, LOOKED)
    assert f"the pool tank lies on {tmp_path}/c, too" in told and "nothing was written" in told


@pytest.mark.parametrize(
    ("script", "environment", "said"),
    [
        ('empty "$T/c"', {}, "is not one of the machine's disks"),
        ('empty "$T/a" "$T/nowhere"', {}, "nowhere is not there"),
        ('empty "$T/a" "$T/b"', {"KEEP": "scsi1"}, "is a disk that a reinstall keeps"),
        ('empty "$T/b"', {"VG": "1"}, "/dev/mapper/vg-data lies on"),
    ],
)
def test_what_must_not_be_written_is_refused_before_anything_is(
    tmp_path: Path, script: str, environment: dict[str, str], said: str
) -> None:
    status, calls, told = run(tmp_path, script, **environment)
    assert (status, calls) == (1, [])
    assert said in told and "nothing was written" in told


def test_no_disk_means_none_and_not_all(tmp_path: Path) -> None:
    assert run(tmp_path, "empty")[:2] == (0, [])


@pytest.mark.parametrize("name", list(LayoutName))
def test_each_layout_is_a_script_that_parses_and_takes_the_first_disk_only(name: LayoutName) -> None:
    text = layout_script(name)
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    assert "DISK_1" not in text
    assert LAYOUTS[name].mounts[0].place == "/"
