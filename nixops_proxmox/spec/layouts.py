"""The layouts by name: what the installer makes of the first disk, and what NixOS mounts of it. The partition script,
the docs and nix/layouts.json (written by `scripts/docs`, for nix/guest.nix) come from this table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType


class LayoutName(StrEnum):
    BTRFS = "btrfs"
    EXT4 = "ext4"
    LVM = "lvm"


@dataclass(frozen=True)
class Mount:
    """A file system that NixOS mounts, by its label."""

    place: str
    kind: str
    label: str = "nixos"
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedLayout:
    """`about`: for people, after "one disk:". `make`: shell lines that make the root file system on the partition
    `$root`, and mount it on /mnt with what belongs to it. `boot`: MiB of the partition for /boot: the ESP of UEFI, and
    ext4 with a BIOS, unless the BIOS boots from the root file system (`apart` is off)."""

    about: str
    mounts: tuple[Mount, ...]
    make: str
    boot: int = 512
    apart: bool = True
    modules: tuple[str, ...] = ()  # of the initial RAM disk
    lvm: bool = False  # whether the initial RAM disk must find logical volumes


@dataclass(frozen=True)
class Sealed:
    """What lies between the partition `$root` and the root file system. `code`, `label`: of the partition. `make`:
    shell lines that leave the device for the file system in `$root`."""

    code: str
    label: str
    make: str


PLAIN = Sealed(code="8300", label="root", make="")
# What people call one, and is none: any layout may lie on an encrypted partition.
NO_LAYOUTS = {
    "luks": "LUKS is not a layout but lies below one: expected `encryption`, with the layout of the file systems here "
    "(ext4, btrfs or lvm)"
}


def refuse_no_layout(name: object) -> object:
    if isinstance(name, str) and name in NO_LAYOUTS:
        raise ValueError(NO_LAYOUTS[name])
    return name


DEFAULT_LAYOUT = LayoutName.EXT4  # where nothing else partitions the disks
SUBVOLUMES = {"/": "root", "/home": "home", "/nix": "nix"}
COMPRESSED = "compress=zstd"

LAYOUTS: Mapping[LayoutName, NamedLayout] = MappingProxyType(
    {
        LayoutName.EXT4: NamedLayout(
            about="one ext4 root",
            mounts=(Mount("/", "ext4"),),
            make='mkfs.ext4 -q -F -L nixos "$root"\nmount "$root" /mnt\n',
            boot=256,
            apart=False,
        ),
        LayoutName.BTRFS: NamedLayout(
            about="btrfs, compressed, with a subvolume each for `/`, `/home` and `/nix`",
            mounts=tuple(
                Mount(place, "btrfs", options=(f"subvol={name}", COMPRESSED)) for place, name in SUBVOLUMES.items()
            ),
            make=(
                'mkfs.btrfs -q -f -L nixos "$root"\n'
                'mount "$root" /mnt\n'
                + "".join(f"btrfs -q subvolume create /mnt/{name}\n" for name in SUBVOLUMES.values())
                + "umount /mnt\n"
                + "".join(
                    f'mkdir -p /mnt{place}\nmount -o subvol={name},{COMPRESSED} "$root" /mnt{place}\n'
                    for place, name in SUBVOLUMES.items()
                )
            ),
        ),
        LayoutName.LVM: NamedLayout(
            about="LVM with the volume group `nixos`, whose logical volume `root` is an ext4 root",
            mounts=(Mount("/", "ext4"),),
            make=(
                'vgcreate -q nixos "$root" >/dev/null\n'
                "lvcreate -q -y -l 100%FREE -n root nixos >/dev/null\n"
                "mkfs.ext4 -q -F -L nixos /dev/nixos/root\n"
                "mount /dev/nixos/root /mnt\n"
            ),
            modules=("dm-snapshot",),
            lvm=True,
        ),
    }
)

# Shell, with the variables of a partition script. `declared DISK...` refuses what is no disk of the machine's, and what
# a reinstall keeps. `empty DISK...` takes down what lies on the disks (LVM, RAID, LUKS, ZFS): nothing of it is found
# afterwards, and what lies on another disk as well is refused. Both refuse before anything is written.
EMPTY = """\
declared() {
  ours=" $(readlink -f $DISKS | tr '\\n' ' ')"
  kept=' '
  for slot in $KEEP; do
    eval "one=\\$DISK_$slot"
    kept="$kept$(readlink -f "$one") "
  done
  for one in "$@"; do
    real=$(readlink -e "$one") || { echo "$one is not there; nothing was written" >&2; exit 1; }
    case $ours in
      *" $real "*) ;;
      *) echo "$one ($real) is not one of the machine's disks, which are $DISKS; nothing was written" >&2; exit 1 ;;
    esac
    case $kept in
      *" $real "*) echo "$one ($real) is a disk that a reinstall keeps; nothing was written" >&2; exit 1 ;;
    esac
  done
}
# Each pool of ZFS with the partitions that it lies on. It must be imported to tell, and not stay so: it holds them.
pools() {
  command -v zpool >/dev/null || return 0
  zpool import -aNf -o readonly=on >/dev/null 2>&1 || :
  zpool list -HvPL | awk '/^[^\t]/ { pool = $1 } $1 ~ "^/" { print pool, $1 }'
  zpool export -af
}
disks_of() { lsblk -nrpso NAME,TYPE "$1" | awk '$2 == "disk" { print $1 }'; }
below() { lsblk -nrpo NAME,TYPE,FSTYPE "$@" | tac | awk '!seen[$1]++'; }
empty() {
  [ $# -gt 0 ] || return 0 # lsblk would list all disks
  declared "$@"
  among=" $(readlink -f "$@" | tr '\\n' ' ')"
  on=$(below "$@")
  case $on in
    # A RAID that is not assembled: its content would be found again in the next one.
    *linux_raid_member*) mdadm --quiet --assemble --scan || :; on=$(below "$@") ;;
  esac
  case $on in
    *zfs_member*)
      spread=$(pools | while read -r pool part; do
        for disk in $(disks_of "$part"); do
          case $among in *" $disk "*) echo "$pool" ;; *) echo "$pool $disk" ;; esac
        done
      done | awk 'NF == 1 { ours[$1] } NF == 2 { other[$1] = $2 }
        END { for (pool in ours) if (pool in other) print "the pool " pool " lies on " other[pool] }')
      [ -z "$spread" ] || { echo "$spread, too, which is not laid out; nothing was written" >&2; exit 1; } ;;
  esac
  echo "$on" | while read -r name type _; do
    case $type in disk | part) continue ;; esac
    for other in $(disks_of "$name"); do
      case $among in *" $other "*) continue ;; esac
      echo "$name lies on $other, too, which is not laid out; nothing was written" >&2
      exit 1
    done
  done || exit 1
  echo "$on" | while read -r name type system; do
    # wipefs leaves enough of the labels for the pool to be imported again.
    [ "$system" != zfs_member ] || ! command -v zpool >/dev/null || zpool labelclear -f "$name"
    wipefs -af "$name" >/dev/null
    case $type in
      lvm | crypt | dm) dmsetup remove --retry "$name" ;;
      raid*) mdadm --quiet --stop "$name" ;;
      disk) sgdisk --zap-all "$name" >/dev/null ;;
    esac
  done
}
"""
_PART = 'part() { if [ -e "$disk-part$1" ]; then echo "$disk-part$1"; else echo "$(readlink -f "$disk")$1"; fi; }\n'


def layout_script(name: LayoutName, sealed: Sealed = PLAIN) -> str:
    """The shell script that lays out the disk `$DISK_0` and mounts it on /mnt. No firmware reads what is sealed, so
    /boot is apart then."""
    layout = LAYOUTS[name]
    if sealed is not PLAIN:
        layout = replace(layout, boot=NamedLayout.boot, apart=True)
    root = f"-n 2:0:0 -t 2:{sealed.code} -c 2:{sealed.label}"
    return (
        f"# The whole first disk: {layout.about.replace('`', '')}, and what the firmware needs to boot it.\n"
        f'{EMPTY}disk=$DISK_0\nempty "$disk"\n'
        f"if [ -d /sys/firmware/efi ]; then\n{_table_of_uefi(layout, root)}else\n{_table_of_bios(layout, root)}fi\n"
        "command -v udevadm >/dev/null && udevadm settle\n"
        f"{_PART}root=$(part 2)\n{sealed.make}mkdir -p /mnt\n{layout.make}"
        f"if [ -d /sys/firmware/efi ]; then\n{_mount_boot('mkfs.vfat -F 32 -n ESP')}"
        + (f"else\n{_mount_boot('mkfs.ext4 -q -F -L boot')}" if layout.apart else "")
        + "fi\n"
    )


def _table_of_uefi(layout: NamedLayout, root: str) -> str:
    return (
        "  # The third is for a GRUB that is told to write itself to the disk as well.\n"
        f'  sgdisk -n 1:0:+{layout.boot}M -t 1:ef00 -c 1:ESP -n 3:0:+2M -t 3:ef02 -c 3:bios {root} "$disk"\n'
    )


def _table_of_bios(layout: NamedLayout, root: str) -> str:
    """The partition with /boot has the attribute by which a BIOS's loader on GPT is found."""
    if not layout.apart:
        return f'  sgdisk -n 1:0:+2M -t 1:ef02 -c 1:bios {root} -A 2:set:2 "$disk"\n'
    return (
        f"  sgdisk -n 1:0:+{layout.boot}M -t 1:8300 -c 1:boot -A 1:set:2 -n 3:0:+2M -t 3:ef02 -c 3:bios"
        f' {root} "$disk"\n'
    )


def _mount_boot(make: str) -> str:
    return f'  {make} "$(part 1)" >/dev/null\n  mkdir -p /mnt/boot\n  mount "$(part 1)" /mnt/boot\n'
