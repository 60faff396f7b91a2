"""Whether the first stage that the boot loader starts next has the sealed key that lies in the system. Pure.

NixOS and others put the sealed key into an archive of the first stage when the boot loader is written. What is there is
looked at itself: that a program ended well does not say what it wrote.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from nixops_proxmox.kinds.machine.encrypted import ROOT
from nixops_proxmox.kinds.machine.encryption import SEALED
from nixops_proxmox.texts import head, script_marker

BOOTS = ("/boot", "/efi", "/boot/efi")  # where the firmware's partition, or that of the boot loader, is mounted
_TOLD = "nixops-proxmox-first-stage"
_JWE = f"{SEALED}/{ROOT}.jwe"


class HasKey(StrEnum):
    YES = "has"
    NO = "lacks"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class FirstStage:
    """`about`: its files, or why it is not known."""

    has: HasKey
    about: str = ""


# `first_stages` tells the archives of the entry that systemd-boot, GRUB or extlinux boots by default. `seek_sealed`
# tells whether one of them has the sealed key, however it is packed; a later archive may follow in the same file.
SEEK = f"""\
sealed={_JWE}
first_stages() {{
  for boot in {" ".join(BOOTS)}; do
    if [ -f $boot/loader/loader.conf ]; then
      name=$(awk '$1 == "default" {{ print $2; exit }}' $boot/loader/loader.conf)
      entry=$(ls $boot/loader/entries/$name 2>/dev/null | {{ sort -V 2>/dev/null || cat; }} | tail -n 1)
      [ -z "$entry" ] || awk -v boot=$boot '$1 == "initrd" {{ print boot $2 }}' "$entry"
    elif [ -f $boot/grub/grub.cfg ]; then
      awk -v boot=$boot '/^ *menuentry / {{ if (seen++) exit }}
        seen && $1 == "initrd" {{ for (i = 2; i <= NF; i++) {{ sub(/^\\([^)]*\\)/, "", $i); print boot $i }} }}' \\
        $boot/grub/grub.cfg
    elif [ -f $boot/extlinux/extlinux.conf ]; then
      awk -v boot=$boot '{{ word = toupper($1) }} word == "DEFAULT" {{ want = $2 }} word == "LABEL" {{ label = $2 }}
        word == "INITRD" && label == want {{ n = split($2, file, ",")
          for (i = 1; i <= n; i++) print (file[i] ~ /^\\// ? boot : boot "/extlinux/") file[i] }}' \\
        $boot/extlinux/extlinux.conf
    else
      continue
    fi
    return
  done
}}
seek_sealed() {{
  found=lacks
  files=$(first_stages)
  [ -n "$files" ] || {{ echo "unknown no boot loader that we know"; return; }}
  for file in $files; do
    [ -r "$file" ] || {{ echo "unknown $file is not there"; return; }}
    case $(head -c 4 "$file" | od -An -tx1 | tr -d ' \\n') in
      30373037) unpack=cat ;;
      28b52ffd) unpack='zstd -dcq' ;;
      1f8b*) unpack='gzip -dcq' ;;
      fd377a58) unpack='xz -dcq' ;;
      425a68*) unpack='bzip2 -dcq' ;;
      04224d18 | 02214c18) unpack='lz4 -dcq' ;;
      *) found="unknown $file is packed in a way that we do not know"; continue ;;
    esac
    if $unpack < "$file" 2>/dev/null | LC_ALL=C grep -aqF -f $sealed; then echo "has $file"; return; fi
    # All of it was seen only if its end is that of an archive.
    if ! $unpack < "$file" 2>/dev/null | tail -c 1024 | LC_ALL=C grep -aq 'TRAILER!!!'; then
      found="unknown $file cannot be unpacked to its end"
    fi
  done
  case $found in lacks) echo "lacks" $files ;; *) echo "$found" ;; esac
}}
"""


def first_stage_script() -> str:
    """Prints nothing where the system has no sealed key."""
    return f"""{script_marker("luks-first-stage")}{SEEK}\
if [ -s $sealed ]; then echo "{_TOLD} $(seek_sealed)"; fi
"""


def parse_first_stage(printed: str) -> FirstStage:
    """Raises ValueError for anything else than what the script prints."""
    found = re.fullmatch(rf"{_TOLD} (has|lacks|unknown)((?: [^\n]*)?)\n?", printed)
    if found is None:
        raise ValueError("it was not told what the first stage has")
    return FirstStage(HasKey(found[1]), head(found[2].strip(), 400))
