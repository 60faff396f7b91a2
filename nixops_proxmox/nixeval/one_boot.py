"""Scripts for the guest that let the next boot, and only that one, take another system; and what their output means.

The system becomes a generation, while the profile stays where it is. The system that runs writes the boot loader's
menu, so it stays the default there, and the new generation is in the menu beside it. Then the boot loader is told to
take the new entry once: systemd-boot by the EFI variable LoaderEntryOneShot, GRUB by `next_entry` in its environment
block. Both clear it before they boot the entry. Whatever becomes of that boot, the one after it takes the default.

GRUB must be able to write, or it would take the entry for ever: it cannot on LVM, on RAID, on encrypted disks and on
most file systems.
"""

import re
import shlex

from nixops_proxmox.errors import ActivationFailed
from nixops_proxmox.model import Booted, Completed, OneBoot
from nixops_proxmox.nixeval.activate import PROFILE, TIMEOUT, ScriptShell
from nixops_proxmox.texts import head, script_marker, tail

_WORD = re.compile(r"[A-Za-z0-9@:_.\\-]{1,255}")
_PATH = re.compile(r"/[\x21-\x7e]{1,400}")
_VARIABLE = "/sys/firmware/efi/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

# Where the entry of a system is in GRUB's menu: 1>0 is the first one in the second submenu.
_PLACE = """\
$NF == "{" {
  kind[++depth] = $1
  if ($1 == "submenu" || $1 == "menuentry") { place[depth] = count[depth]++; count[depth + 1] = 0 }
}
$1 == "}" && depth > 0 { depth-- }
kind[depth] == "menuentry" && index($0 " ", "init=" wanted "/init ") {
  path = place[1]
  for (level = 2; level <= depth; level++) path = path ">" place[level]
  print path
  exit
}
"""

_COMMON = f"""\
profile={PROFILE} variable={_VARIABLE} grub=/boot/grub
failed() {{
  systemctl list-units --failed --plain --no-legend --no-pager 2>/dev/null |
    while read -r unit _; do echo "failed $unit"; done
}}
editor() {{
  command -v grub-editenv && return
  for path in $(nix-store -qR "$(readlink -f /run/current-system)" 2>/dev/null | grep -e '-grub-[0-9]'); do
    [ ! -x "$path/bin/grub-editenv" ] || {{ echo "$path/bin/grub-editenv"; return; }}
  done
  return 1
}}
number_of() {{
  most=
  for link in "$profile"-*-link; do
    [ "$(readlink -f "$link")" = "$1" ] || continue
    number=${{link#"$profile"-}} && number=${{number%-link}}
    [ -n "$most" ] && [ "$most" -gt "$number" ] || most=$number
  done
  echo "$most"
}}
"""

_STAGE = """\
no() {{ echo "nixops-proxmox-once no $1"; exit 0; }}
system={system} forgets={forgets}
run=/run/nixops-proxmox
mkdir -p "$run" && chmod 700 "$run" || exit 1
# An activation that outlived the connection which began it is let finish first.
while pid=$(cat "$run/activation.pid" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
previous=$(readlink -f /run/current-system)
[ -x "$previous/bin/switch-to-configuration" ] || no "it runs no system to go back to"
[ -x "$system/bin/switch-to-configuration" ] || {{ echo "it is not in the store of the guest" >&2; exit 1; }}
old=$(number_of "$previous")
[ -n "$old" ] || no "the system that runs is no generation, so no boot loader can go back to it"
entries=
for top in $(bootctl --print-boot-path 2>/dev/null) $(bootctl --print-esp-path 2>/dev/null) /boot /efi /boot/efi; do
  [ ! -d "$top/loader/entries" ] || entries="$entries $top/loader/entries"
  [ ! -d "$top/EFI/Linux" ] || entries="$entries $top/EFI/Linux"
done
if [ -n "$entries" ]; then
  [ -d /sys/firmware/efi ] || no "its firmware has no variables for systemd-boot"
  [ -z "$forgets" ] || no "its firmware forgets what systemd-boot is told, because the VM has no EFI disk"
elif [ -e "$grub/grub.cfg" ]; then
  grep -q next_entry "$grub/grub.cfg" || no "its GRUB configuration takes no entry for one boot"
  type=$(findmnt -n -o FSTYPE -T "$grub")
  case $type in
  ext[234] | vfat | xfs) ;;
  *) no "GRUB cannot write to $grub: its file system is $type" ;;
  esac
  case $(findmnt -n -o SOURCE -T "$grub") in
  /dev/mapper/* | /dev/dm-* | /dev/md*) no "GRUB cannot write to $grub: it is on LVM, RAID or an encrypted disk" ;;
  esac
  edit=$(editor) || no "it has no grub-editenv"
else
  no "it has neither systemd-boot nor GRUB"
fi
PATH=$previous/sw/bin:$PATH
export PATH
failed
nix-env -p "$profile" --set "$system" >&2 && new=$(number_of "$system") && [ -n "$new" ] || exit 1
nix-env -p "$profile" --switch-generation "$old" >&2 || exit 1
"$previous/bin/switch-to-configuration" boot </dev/null >&2 || exit 1
if [ -n "$entries" ]; then
  for folder in $entries; do
    for entry in "$folder"/*; do
      [ -f "$entry" ] && grep -qaF -e "init=$system/init" "$entry" || continue
      id=$(basename "$entry" | sed 's/+[0-9]*\\(-[0-9]*\\)\\{{0,1\\}}\\.\\([a-z]*\\)$/.\\2/')
      bootctl set-oneshot "$id" >&2 && [ -e "$variable" ] || no "its firmware did not take the entry $id for one boot"
      sync
      echo "nixops-proxmox-once yes $new systemd-boot"
      exit 0
    done
  done
else
  place=$(awk -v wanted="$system" '{place}' "$grub/grub.cfg")
  [ -n "$place" ] || no "the new generation is not in the menu of GRUB"
  [ -e "$grub/grubenv" ] || "$edit" "$grub/grubenv" create || exit 1
  "$edit" "$grub/grubenv" set "next_entry=$place" || exit 1
  "$edit" "$grub/grubenv" list | grep -qxF -e "next_entry=$place" ||
    no "GRUB did not take the entry $place for one boot"
  sync
  echo "nixops-proxmox-once yes $new GRUB"
  exit 0
fi
no "the new generation is not in the menu of systemd-boot"
"""

_UNSTAGE = """\
if [ -e "$variable" ]; then bootctl set-oneshot "" >&2 || exit 1; fi
if [ -e "$grub/grubenv" ] && grep -q ^next_entry= "$grub/grubenv"; then
  edit=$(editor) && "$edit" "$grub/grubenv" unset next_entry || exit 1
fi
"""

_BOOTED = """\
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
echo "system $(readlink -f /run/booted-system)"
failed
"""

_KEEP = """\
system={system}
PATH=$system/sw/bin:$PATH
export PATH
[ "$(readlink -f /run/booted-system)" = "$system" ] || {{ echo "it was not booted" >&2; exit 1; }}
if [ "$(readlink -f "$profile")" != "$system" ]; then
  number=$(number_of "$system")
  if [ -n "$number" ]; then nix-env -p "$profile" --switch-generation "$number" >&2
  else nix-env -p "$profile" --set "$system" >&2
  fi || exit 1
fi
"$system/bin/switch-to-configuration" boot </dev/null >&2 || exit 1
echo "nixops-proxmox-once kept $(readlink "$profile")"
"""


def stage_script(system: str, *, forgets: bool = False) -> str:
    """Let the next boot take that system, and the one after it the system that runs now."""
    told = _STAGE.format(system=shlex.quote(system), place=_PLACE, forgets="yes" if forgets else "")
    return script_marker("once-stage", system) + _COMMON + told


def unstage_script() -> str:
    """The next boot takes the default."""
    return script_marker("once-unstage") + _COMMON + _UNSTAGE


def booted_script() -> str:
    """Prints which system was booted, and which units have failed."""
    return script_marker("once-booted") + _COMMON + _BOOTED


def keep_script(system: str) -> str:
    """The system that was booted becomes the current generation, and the default of the boot loader."""
    return script_marker("once-keep", system) + _COMMON + _KEEP.format(system=shlex.quote(system))


def stage_system(system: str, shell: ScriptShell, *, forgets: bool = False) -> OneBoot:
    """Raises ActivationFailed if the boot loader could not be written."""
    done = shell.run(stage_script(system, forgets=forgets), timeout=TIMEOUT)
    failed = _failed(done.stdout)
    if yes := re.search(r"^nixops-proxmox-once yes ([0-9]{1,9}) (systemd-boot|GRUB)$", done.stdout, re.MULTILINE):
        return OneBoot(int(yes[1]), yes[2], failed=failed)
    if no := re.search(r"^nixops-proxmox-once no (.+)$", done.stdout, re.MULTILINE):
        return OneBoot(why=head(no[1], 300))
    raise ActivationFailed(f"the new system could not be put beside the one that boots\n{_words(done)}".rstrip())


def unstage_system(shell: ScriptShell) -> None:
    done = shell.run(unstage_script())
    if done.status != 0:
        raise ActivationFailed(f"the next boot takes a system that is not wanted any more\n{_words(done)}".rstrip())


def find_booted(shell: ScriptShell) -> Booted:
    """What the guest says of its last boot. Empty: it does not say."""
    done = shell.run(booted_script())
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines() if not line.startswith("failed "))
    boot, system = said.get("boot", ""), said.get("system", "")
    return Booted(
        boot if _WORD.fullmatch(boot) else "", system if _PATH.fullmatch(system) else "", _failed(done.stdout)
    )


def keep_system(system: str, shell: ScriptShell) -> int:
    """The number of its generation. ActivationFailed if it could not be made the default."""
    done = shell.run(keep_script(system), timeout=TIMEOUT)
    found = re.search(r"^nixops-proxmox-once kept (?:.*/)?system-([0-9]{1,9})-link$", done.stdout, re.MULTILINE)
    if done.status != 0 or not found:
        raise ActivationFailed(f"the system could not be made the one that boots\n{_words(done)}".rstrip())
    return int(found[1])


def _failed(text: str) -> tuple[str, ...]:
    units = (line.removeprefix("failed ") for line in text.splitlines() if line.startswith("failed "))
    return tuple(unit for unit in units if _WORD.fullmatch(unit))


def _words(done: Completed) -> str:
    return tail(f"{done.stdout}\n{done.stderr}".strip(), 2000)


class GuestLoader:
    """Satisfies `kinds.machine.ports.Loader`."""

    def stage(self, system: str, shell: ScriptShell, *, forgets: bool = False) -> OneBoot:
        return stage_system(system, shell, forgets=forgets)

    def unstage(self, shell: ScriptShell) -> None:
        unstage_system(shell)

    def booted(self, shell: ScriptShell) -> Booted:
        return find_booted(shell)

    def keep(self, system: str, shell: ScriptShell) -> int:
        return keep_system(system, shell)
