"""What others write, from where they write it to a real terminal: nothing steers it, no line is forged, no command of
ours is put into our mouth; and JSON has the raw text."""

import json
import os
import pty
import re
import select
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.pace import patience

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

# A title, a cleared screen, an overwritten line, another direction, our own mark, and lines that look like ours.
RAW = (
    "EVIL\x1b]0;EVIL\x07\x1b[2J\x1b[1;1H\rEVIL\u202eEVIL\u2066\u200b\x9b2J ⟨destroy web⟩"
    "\nerror: EVIL\nhint: `nixops-proxmox destroy web`\nweb: EVIL, nothing to do"
)
LINE = RAW.replace("\n", " ")  # for what has one line
OURS = re.compile(
    r"(?:\r?\x1b\[2K|\r?\x1b\[(?:1?A|\?25[lh])|\x1b\[[0-9;]*m)"
)  # what rich draws with: colours, the cursor, its lines
FORGED = re.compile(r"^(?:error: EVIL|hint: `nixops-proxmox destroy|web: EVIL)", re.MULTILINE)
MARKS = re.compile("⟨[0-9a-f]{8} ")  # how a command begins that no door has spelled

NETWORK = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
in
{
  web = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      install.partition = ''
        set -e
        ${from "FAILING" ""}
        part() { echo "$(readlink -f "$1")$2"; }
        sgdisk --zap-all "$DISK_0"; sgdisk -n 1:0:+2M -t 1:ef02 -n 2:0:0 -A 2:set:2 "$DISK_0"
        mkfs.ext4 -q -F -L "$(printf 'EVIL\\033[2J')" "$(part "$DISK_0" 2)"
        mkdir -p /mnt && mount "$(part "$DISK_0" 2)" /mnt
      '';
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      extra = { ciuser = "admin"; };
    };
    toplevel = import DEMO/system.nix {
      name = "web";
      hosts = { };
      service = { port = 80; handler = "echo hello"; };
    };
  };
}
"""


@pytest.fixture
def own_bed(bed: "Bed", tmp_path: Path) -> "Bed":
    from tests.e2e.bed import DEMO

    network = tmp_path / "network.nix"
    network.write_text(NETWORK.replace("DEMO", str(DEMO)))
    return replace(bed, network=network)


def on_a_terminal(bed: "Bed", *words: str, **extra: str) -> str:
    """All that the terminal was sent."""
    ours, theirs = pty.openpty()
    environment = bed.environment | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"} | extra
    process = subprocess.Popen(bed.inside(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    sent = b""
    try:
        while select.select([ours], [], [], patience(60))[0]:
            try:
                sent += os.read(ours, 1 << 16)
            except OSError:  # the program has ended
                break
        process.wait(patience(60))
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return sent.decode()


def check(sent: str, *, told: str = "EVIL") -> str:
    """What it said is safe to see, and has what was told."""
    plain = OURS.sub("", sent.replace("\r\n", "\n"))
    wrong = [line for line in plain.split("\n") if not line.replace("\t", "").isprintable()]
    assert wrong == [], wrong
    assert told in plain, plain
    assert not FORGED.search(plain), plain
    assert not MARKS.search(plain), plain
    assert "`nixops-proxmox destroy web`" not in re.sub("hint: `nixops-proxmox destroy web`", "", plain), plain
    return plain


def texts(value: Any) -> Iterable[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield from (key, *texts(inner))
        case list():
            for inner in value:
                yield from texts(inner)


def told_in_json(bed: "Bed", *words: str, **extra: str) -> list[str]:
    """Every text of the answer, which a terminal may see, too."""
    out = bed.run(*words, "--json", check=False, **extra).stdout
    assert all(line.isprintable() for line in out.split("\n")), out
    return [*texts(json.loads(out))]


def fail_tasks(bed: "Bed", path: str) -> None:
    bed.fault("fail_task", method="POST", path=path, text=f"{RAW}\x00")


def test_hostile_text_reaches_no_terminal(own_bed: "Bed") -> None:
    bed = own_bed
    # A task that fails, an answer that refuses, a script that fails: and the history of them.
    fail_tasks(bed, "/qemu$")
    assert "failed" in check(on_a_terminal(bed, "deploy"))
    bed.fault("refuse", method="POST", path="/qemu$", status=400, text=LINE.replace("\r", ""))
    check(on_a_terminal(bed, "deploy"))
    script = "".join(f"\\{byte:03o}" for byte in RAW.encode())
    check(on_a_terminal(bed, "deploy", FAILING=f"printf '{script}\\000\\n' >&2; exit 3"))
    check(on_a_terminal(bed, "history", "web", "-v"))
    assert not any("⟨" in text for text in told_in_json(bed, "history"))
    bed.fault("warn_task", method="POST", path="/status/start$", text=RAW)
    check(on_a_terminal(bed, "deploy"), told="1 machine ready")
    steer_from_outside(bed)
    check(on_a_terminal(bed, "plan"))
    assert LINE in told_in_json(bed, "plan")
    check(on_a_terminal(bed, "check"))
    assert LINE in told_in_json(bed, "check")
    steer_from_inside(bed)
    bed.fault("refuse", method="GET", path="agent/network-get-interfaces", text=LINE.replace("\r", ""), times=4)
    check(on_a_terminal(bed, "status", "--endpoints"), told="web")
    told_in_json(bed, "status")
    spoil_the_notes(bed)
    check(on_a_terminal(bed, "recover", "--dry-run"))
    assert f"{RAW}\x00" in told_in_json(bed, "recover", "--dry-run")


def vm_path(bed: "Bed") -> str:
    ((vmid, vm),) = bed.vms().items()
    return f"/nodes/{vm['node']}/qemu/{vmid}"


def steer_from_outside(bed: "Bed") -> None:
    """Somebody else who may change the VM: the notes and values take any text, names and tags do not."""
    import urllib.error

    path = f"{vm_path(bed)}/config"
    for key in ("name", "tags"):
        with pytest.raises(urllib.error.HTTPError):
            bed.api("PUT", path, **{key: LINE})
    notes = bed.api("GET", path)["description"]
    bed.api("PUT", path, description=f"{RAW}\n\n{notes}", ciuser=LINE, searchdomain=LINE)


def steer_from_inside(bed: "Bed") -> None:
    """Root in the guest: its name, its release and its files."""
    name = "".join(f"\\{byte:03o}" for byte in LINE[:40].encode())
    bed.ssh(
        "web",
        f'n=$(printf \'{name}\'); hostname "$n" 2>/dev/null; echo "$n" >/etc/hostname;'
        ' rm -f /etc/os-release; printf "PRETTY_NAME=\\"%s\\"\\nID=\\"%s\\"\\n" "$n" "$n" >/etc/os-release;'
        " touch \"/etc/$(printf 'EVIL\\033[2J\\n')\"",
    )


def spoil_the_notes(bed: "Bed") -> None:
    """The mark says another name."""
    from urllib.parse import quote

    path = f"{vm_path(bed)}/config"
    notes = bed.api("GET", path)["description"]
    bed.api("PUT", path, description=re.sub("machine: `web`", f"machine: `{quote(RAW)}%00`", notes))
