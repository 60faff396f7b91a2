"""A user who is not root, and sudo.

A guest may have no second user id, for the lab's owner has only one to give. So another user is a process that finds
everything read-only but its home and the folder for temporary files; sudo leads back to where the guest's init is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from nixops_proxmox.lab.guestfs.disks import ToolError
from nixops_proxmox.lab.guestfs.holder import MS_PRIVATE, MS_REC, bind, check, libc, make_read_only, mount

CLONE_NEWNS = 0x20000
RULE = re.compile(r"^(\S+)\s+ALL\s*=\s*\(ALL(?::ALL)?\)\s+NOPASSWD:\s*(?:SETENV:\s*)?ALL\s*$", re.MULTILINE)


def lab_user(argv: list[str]) -> None:
    """`lab-user NAME HOME COMMAND…`: becomes the command."""
    name, home, *command = argv
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    os.makedirs(home, exist_ok=True)
    bind(home, home)
    kept = [home, "/tmp", "/proc"]  # noqa: S108
    if is_trusted(name):
        bind("/nix", "/nix")
        kept.append("/nix")
    for target in dict.fromkeys(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()):
        if target not in kept and not target.startswith("/dev") and os.path.isdir(target):
            make_read_only(target)
    os.chdir(home)
    os.environ.update(HOME=home, USER=name, LOGNAME=name)
    os.execvp(command[0], command)  # noqa: S606 -- no shell is wanted


def is_trusted(name: str) -> bool:
    """May this user give paths to Nix? In a NixOS, its daemon writes them; here is none, so the user does."""
    conf = Path("/etc/nix/nix.conf")
    lines = conf.read_text().splitlines() if conf.exists() else []
    trusted = [line.split()[2:] for line in lines if line.startswith(("trusted-users =", "extra-trusted-users ="))]
    return any(name in names for names in trusted)


def sudo(argv: list[str]) -> None:
    """`sudo -n -- COMMAND…`, for whom a file in /etc/sudoers.d lets do everything without a password."""
    words = list(argv)
    while words and words[0] in ("-n", "-H", "--"):
        words.pop(0)
    name = os.environ.get("USER", "root")
    files = sorted(Path("/etc/sudoers.d").glob("*")) if os.path.isdir("/etc/sudoers.d") else []
    if name != "root" and not any(name in RULE.findall(file.read_text()) for file in files):
        raise ToolError("sudo: a password is required")
    if not words:
        raise ToolError("usage: sudo [-n] COMMAND…")
    home = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    check(libc.setns(home, CLONE_NEWNS), "setns")
    os.chdir("/root")
    os.environ.update(HOME="/root", USER="root", LOGNAME="root", SUDO_USER=name)
    os.execvp(words[0], words)  # noqa: S606 -- no shell is wanted
