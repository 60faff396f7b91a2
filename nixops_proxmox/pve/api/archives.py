"""Pure: what a backup says of the VM that is in it."""

from collections.abc import Mapping
from urllib.parse import unquote

from nixops_proxmox.pve.api.answers import as_text


def parse_config_file(data: object) -> Mapping[str, str]:
    """GET …/vzdump/extractconfig: the VM's configuration file, without its snapshots. Its notes are comment lines,
    percent-encoded; vzdump's own map of the disks is one, too."""
    values: dict[str, str] = {}
    notes = []
    for line in as_text(data, "the archive's configuration").splitlines():
        if line.startswith("["):
            break  # a snapshot's section
        if line.startswith("#"):
            if not line.startswith("#qmdump#"):
                notes.append(unquote(line[1:]))
            continue
        key, separator, value = line.partition(":")
        if separator:
            values[key.strip()] = value.strip()
    return values | ({"description": "\n".join(notes)} if notes else {})
