"""Makes a running guest use all of a disk that was made larger: rung by rung, from its partition to the file system.
Each rung is looked at, done only if it is needed, and looked at again. So a run that broke off goes on."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nixops_proxmox.errors import CommandFailed
from nixops_proxmox.guest.layout import SEARCH, Block, Layout, Part, look_script, parse_layout
from nixops_proxmox.model import Completed, GrownDisk
from nixops_proxmox.texts import script_marker, tail

MIB = 1 << 20
SLACK = 2 * MIB  # a second partition table, and alignment
LARGEST_DOS = 2 << 40  # what an MBR can say
EXT = ("ext2", "ext3", "ext4")
GROWABLE = frozenset({*EXT, "xfs", "btrfs", "zfs_member", "crypto_LUKS", "LVM2_member"})
EXTENDED = frozenset({"5", "f", "85"})
ZFS_RESERVED = "6a945a3b-1dd2-11b2-99a6-080020736631"  # the small last partition of a disk that was given to ZFS whole
PACKAGES = {
    "sfdisk": "util-linux", "partx": "util-linux", "cryptsetup": "cryptsetup", "pvresize": "lvm2", "lvextend": "lvm2",
    "resize2fs": "e2fsprogs", "xfs_growfs": "xfsprogs", "btrfs": "btrfs-progs", "zpool": "zfs", "mkswap": "util-linux",
}  # fmt: skip
OVERHEAD = 0.8  # statfs tells less than the device has: inodes and a journal of ext4, a log of xfs
TIME = 1800.0  # seconds for one rung


@dataclass(frozen=True)
class Rung:
    """`short`: it is smaller than what is below it allows. For a file system, only its own tool knows, and it does
    nothing if nothing is to be done."""

    what: str
    tool: str
    script: str
    short: bool = True
    hint: str = ""  # what helps where it fails
    mount: str = ""  # of a file system
    room: int = 0  # bytes of the device that a file system is on


@dataclass(frozen=True)
class Ladder:
    """From the partition to the file system. `hindrance`: why it leads to none. `strange`: there is nothing on the disk
    that we know."""

    rungs: tuple[Rung, ...] = ()
    hindrance: str = ""
    strange: str = ""


class _Stop(Exception):
    """Why the ladder ends before a file system."""

    def __init__(self, why: str, *, strange: bool = False) -> None:
        super().__init__(why)
        self.why, self.strange = why, strange


def find_ladder(layout: Layout, disk: Block) -> Ladder:
    """What lies on the disk, from the bottom."""
    rungs: list[Rung] = []
    try:
        for rung in _climb(layout, disk):
            rungs.append(rung)
    except _Stop as stop:
        return Ladder(tuple(rungs), *(("", stop.why) if stop.strange else (stop.why, "")))
    return Ladder(tuple(rungs))


def _climb(layout: Layout, disk: Block) -> Iterator[Rung]:
    if not disk.table:
        yield from _above(layout, disk)
        return
    part, block = _choose_part(layout, disk)
    if part is None:  # ZFS has the whole disk, and moves the end of its partition itself
        yield from _zfs(layout, disk, block)
        return
    room = disk.size - part.end
    if disk.table == "dos" and disk.size > LARGEST_DOS:
        raise _Stop("a partition table of the kind MBR (dos) ends at 2 TiB")
    device, number = disk.device, str(part.number)
    script = f"""set -eu
echo ', +' | sfdisk --no-reread --no-tell-kernel -q -N {number} {shlex.quote(device)}
partx --update --nr {number} {shlex.quote(device)}
"""
    short = room > SLACK or part.size - block.size > SLACK
    yield Rung(f"partition {number}", "sfdisk", _script("grow-partition", script, device, number), short)
    yield from _above(layout, block)


def _choose_part(layout: Layout, disk: Block) -> tuple[Part | None, Block]:
    """The partition that grows: the last one, if it is the one that is of use."""
    table = sorted(layout.tables.get(disk.name, ()), key=lambda part: part.start)
    blocks = {child.name: child for child in disk.children}
    if not table and "sfdisk" not in layout.tools:
        raise _Stop(_missing("sfdisk"))
    extended = [part for part in table if part.kind in EXTENDED]
    table = [part for part in table if part.name in blocks and part not in extended]
    if not table:
        raise _Stop("its partition table has no partition", strange=True)
    last, held = table[-1], [part for part in table if blocks[part.name].holds in GROWABLE]
    if last.kind == ZFS_RESERVED and len(table) == 2 and blocks[table[0].name].holds == "zfs_member":
        return None, blocks[table[0].name]
    if last not in held and not held and blocks[last.name].holds != "swap":
        raise _Stop("it holds nothing that we know how to grow", strange=True)
    if last not in held and held:
        main = max(held, key=lambda part: part.size)
        content = blocks[last.name].holds or "unknown content"
        raise _Stop(
            f"partition {last.number} ({content}) lies behind partition {main.number} ({blocks[main.name].holds}),"
            f" which therefore cannot grow: delete or move partition {last.number}, or reinstall"
        )
    if any(part.start <= last.start < part.end for part in extended):
        raise _Stop(f"partition {last.number} lies in an extended partition: grow both by hand, or reinstall")
    return last, blocks[last.name]


def _above(layout: Layout, block: Block) -> Iterator[Rung]:
    match block.holds:
        case "crypto_LUKS":
            yield from _luks(layout, block)
        case "LVM2_member":
            yield from _lvm(layout, block)
        case "zfs_member":
            yield from _zfs(layout, block, block)
        case "swap":
            yield from _swap(layout, block)
        case "ext2" | "ext3" | "ext4" | "xfs" | "btrfs":
            yield from _file_system(block)
        case "":
            raise _Stop("it holds nothing that we know", strange=True)
        case other:
            raise _Stop(f"it holds {other}, which we do not know how to grow", strange=True)


def _luks(layout: Layout, block: Block) -> Iterator[Rung]:
    opened = [child for child in block.children if child.kind == "crypt"]
    if not opened:
        raise _Stop(f"LUKS on {block.device} is locked")
    (inner, *_) = opened
    room = block.size - layout.offsets.get(inner.name, 32 * MIB)
    script = f"set -eu\ncryptsetup resize --batch-mode {shlex.quote(inner.name)} </dev/null\n"
    yield Rung(
        f"LUKS {inner.name}",
        "cryptsetup",
        _script("grow-luks", script, inner.name),
        room - inner.size >= MIB,
        "it takes the new size without a passphrase when it is opened the next time, at the next restart",
    )
    yield from _above(layout, inner)


def _lvm(layout: Layout, block: Block) -> Iterator[Rung]:
    names = {block.device, f"/dev/{block.name}"}
    volume = next((one for one in layout.volumes if one.device in names), None)
    if volume is None:
        raise _Stop(_missing("pvresize") if "pvresize" not in layout.tools else f"LVM does not know {block.device}")
    script = f"set -eu\npvresize -q {shlex.quote(volume.device)}\n"
    short = volume.room - volume.size >= volume.extent
    yield Rung(f"PV {block.name}", "pvresize", _script("grow-pv", script, volume.device), short)
    found = [one for one in layout.logical if one.group == volume.group]
    grown = _blocks_named(layout, {one.device.removeprefix("/dev/mapper/") for one in found if one.kind == "linear"})
    grown = {name: one for name, one in grown.items() if one.holds in GROWABLE}
    if len(grown) != 1:
        raise _Stop(
            f"the volume group {volume.group} has {len(grown)} logical volumes that can grow, and which one is to is"
            " for you to say: `lvextend -r` there"
        )
    ((name, inner),) = grown.items()
    logical = next(one for one in found if one.device == f"/dev/mapper/{name}")
    path = f"{logical.group}/{logical.name}"
    script = f"set -eu\nlvextend -q -l +100%FREE {shlex.quote(path)}\n"
    yield Rung(f"LV {path}", "lvextend", _script("grow-lv", script, path), short or volume.free >= volume.extent)
    yield from _above(layout, inner)


def _blocks_named(layout: Layout, names: set[str]) -> dict[str, Block]:
    found: dict[str, Block] = {}
    todo = list(layout.blocks)
    while todo:
        block = todo.pop()
        todo += block.children
        if block.name in names:
            found[block.name] = block
    return found


def _file_system(block: Block) -> Iterator[Rung]:
    if not block.mounts:
        raise _Stop(f"{block.holds} on {block.device} is not mounted")
    mount = min(block.mounts, key=lambda one: (one.startswith("/nix/store"), len(one)))
    device, target = shlex.quote(block.device), shlex.quote(mount)
    tool, script = {
        "xfs": ("xfs_growfs", f"xfs_growfs {target} >/dev/null\n"),
        "btrfs": ("btrfs", _BTRFS.format(device=device, target=target)),
    }.get(block.holds, ("resize2fs", f"resize2fs {device} >/dev/null\n"))
    marked = _script("grow-fs", f"set -eu\n{script}", block.holds, block.device, mount)
    yield Rung(f"{block.holds} {mount}", tool, marked, mount=mount, room=block.size)


_BTRFS = """\
ids=$(btrfs filesystem show {target} | sed -n 's/^[[:space:]]*devid *\\([0-9]*\\) .* path \\(.*\\)$/\\1 \\2/p')
real=$(readlink -f {device})
id=$(echo "$ids" | while read -r id path; do if [ "$(readlink -f "$path")" = "$real" ]; then echo "$id"; fi; done)
[ -n "$id" ] || {{ echo "btrfs does not name $real among its devices" >&2; exit 1; }}
btrfs filesystem resize "$id:max" {target} >/dev/null
"""


def _swap(layout: Layout, block: Block) -> Iterator[Rung]:
    used = layout.swaps.get(block.device, layout.swaps.get(f"/dev/{block.name}", 0))
    if not used:
        raise _Stop(f"swap on {block.device} is not in use")
    device = shlex.quote(block.device)
    marked = _script("grow-swap", _SWAP.format(device=device), block.device)
    yield Rung(f"swap {block.name}", "mkswap", marked, block.size - used > MIB)


_SWAP = """\
set -eu
real=$(readlink -f {device})
used=$(while read -r path kind size used rest; do
  if [ "$(readlink -f "$path")" = "$real" ]; then echo "$used"; fi; done </proc/swaps)
free=$(sed -n 's/^MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)
[ "${{used:-0}}" -lt "$free" ] || {{ echo "the memory has no room for what is swapped out" >&2; exit 1; }}
uuid=$(blkid -s UUID -o value {device})
label=$(blkid -s LABEL -o value {device} || true)
swapoff {device}
mkswap -U "$uuid" ${{label:+-L "$label"}} {device} >/dev/null
swapon {device}
"""


def _zfs(layout: Layout, below: Block, block: Block) -> Iterator[Rung]:
    """`below`: what ZFS was given, a disk or a partition."""
    pool = block.label
    if pool not in layout.pools:
        raise _Stop(_missing("zpool") if "zpool" not in layout.tools else f"the ZFS pool {pool} is not imported")
    script = _ZPOOL.format(pool=shlex.quote(pool), device=shlex.quote(block.device), disk=shlex.quote(below.device))
    short = layout.pools[pool] > 0 or below.size - block.size > 16 * MIB
    yield Rung(f"ZFS {pool}", "zpool", _script("grow-zfs", script, pool, block.device), short)


_ZPOOL = """\
set -eu
for path in $(zpool status -P {pool} | sed -n 's|^[[:space:]]*\\(/dev/[^ ]*\\).*|\\1|p'); do
  case "$(readlink -f "$path")" in
    {device}|{disk}) zpool online -e {pool} "$path"; exit 0;;
  esac
done
echo "the pool names none of its devices so" >&2
exit 1
"""


def _script(name: str, script: str, *words: str) -> str:
    return script_marker(name, *words) + SEARCH + script


def _missing(tool: str) -> str:
    return f"the guest lacks `{tool}` (NixOS has it in `{PACKAGES[tool]}`)"


# Doing it.


def look(run: Callable[[str], Completed], *, rescan: bool = False) -> Layout:
    done = run(look_script(rescan=rescan))
    if done.status:
        raise CommandFailed(
            f"the guest could not tell what lies on its disks: {tail(done.stderr.strip(), 500)}",
            status=done.status,
            output=done.stderr,
        )
    return parse_layout(done.stdout)


def find_block(layout: Layout, device: str) -> Block | None:
    return next((block for block in layout.blocks if block.device == device), None)


def foresee(layout: Layout, slot: str, device: str) -> GrownDisk:
    """What would be grown. Nothing is done."""
    disk = find_block(layout, device)
    if disk is None:
        return GrownDisk(slot, hindrance=f"the guest does not show {device} any more")
    ladder = find_ladder(layout, disk)
    missing = [_missing(rung.tool) for rung in ladder.rungs if rung.tool not in layout.tools]
    hindrance = ladder.hindrance or next(iter(missing), "")
    return GrownDisk(slot, tuple(rung.what for rung in ladder.rungs), hindrance=hindrance, strange=ladder.strange)


def grow(
    run: Callable[[str], Completed],
    slot: str,
    device: str,
    size: int,
    tell: Callable[[str], None] = lambda _: None,
) -> GrownDisk:
    """Take the disk into use up to its end. `size`: what it has in PVE. What hinders is returned, not raised."""
    layout = look(run, rescan=True)
    done: list[Rung] = []
    first = foresee(layout, slot, device)
    rooms = _rooms(layout, device)
    while True:
        disk = find_block(layout, device)
        if disk is None or disk.size < size:
            seen = "nothing" if disk is None else f"{disk.size >> 20} MiB"
            return GrownDisk(slot, first.rungs, hindrance=f"the guest still sees {seen} of it; a restart ends that")
        ladder = find_ladder(layout, disk)
        rung = next((one for one in ladder.rungs if one.short and one.what not in [old.what for old in done]), None)
        if rung is None:
            break
        if rung.tool not in layout.tools:
            return GrownDisk(slot, _names(done), hindrance=_missing(rung.tool))
        least = layout.mounted.get(rung.mount, 0) + int(OVERHEAD * max(0, rung.room - rooms.get(rung.mount, rung.room)))
        ended = run(rung.script)
        if ended.status:
            return GrownDisk(slot, _names(done), hindrance=_failed(rung, ended))
        done.append(rung)
        layout = look(run)
        tell(f"{slot}: {rung.what} is grown")
        if wrong := _shortfall(layout, rung, least):
            return GrownDisk(slot, _names(done), hindrance=wrong)
    still = [one.what for one in ladder.rungs if one.short and not one.mount]
    if still and not ladder.hindrance:
        return GrownDisk(slot, _names(done), hindrance=f"{still[0]} is still smaller than what is below it")
    return GrownDisk(slot, _names(done), _told(layout, done), ladder.hindrance, ladder.strange)


def _rooms(layout: Layout, device: str) -> dict[str, int]:
    """By mount point: the bytes of the device below the file system."""
    disk = find_block(layout, device)
    return {rung.mount: rung.room for rung in (find_ladder(layout, disk).rungs if disk else ())}


def _names(done: Sequence[Rung]) -> tuple[str, ...]:
    return tuple(rung.what for rung in done)


def _told(layout: Layout, done: Sequence[Rung]) -> int:
    return next((layout.mounted.get(rung.mount, 0) for rung in reversed(done) if rung.mount), 0)


def _failed(rung: Rung, ended: Completed) -> str:
    said = tail((ended.stderr or ended.stdout).strip(), 300)
    hint = f"; {rung.hint}" if rung.hint else ""
    return f"{rung.what} did not grow: {said or f'exit status {ended.status}'}{hint}"


def _shortfall(layout: Layout, rung: Rung, least: int) -> str:
    """What statfs says of a file system that was grown. This counts, and not the tool's exit status."""
    if not rung.mount:
        return ""
    now = layout.mounted.get(rung.mount, 0)
    if now >= least and now >= rung.room * OVERHEAD:
        return ""
    return f"{rung.what} has {now >> 20} MiB after it was grown, on a device of {rung.room >> 20} MiB"
