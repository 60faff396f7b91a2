"""GRUB, as far as an installed guest needs it: NixOS's menu, the environment block, and which system a boot takes.

The default is what the menu says, and the menu says what the boot loader was installed with last. An entry for one boot
is in the block under `next_entry`; the boot that takes it clears it first.
"""

from __future__ import annotations

import os
import re
import sys

from nixops_proxmox.lab.guestfs.disks import ToolError

FOLDER = "/boot/grub"
PROFILE = "/nix/var/nix/profiles/system"
HEADER, SIZE = "# GRUB Environment Block\n", 1024
MENU = """\
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ]; then
  set default="${next_entry}"
  set next_entry=
  save_env next_entry
fi
"""
ENTRY = """menuentry "%s" {
  linux /kernel init=%s/init
}
"""


def read_block(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ToolError(f"grub-editenv: error: cannot open `{path}': {error.strerror}.", 1) from error
    if not text.startswith(HEADER) or len(text) != SIZE:
        raise ToolError("grub-editenv: error: invalid environment block.", 1)
    lines = (line.partition("=") for line in text[len(HEADER) :].rstrip("#").splitlines())
    return {name: value for name, _, value in lines}


def write_block(path: str, values: dict[str, str]) -> None:
    text = HEADER + "".join(f"{name}={value}\n" for name, value in values.items())
    if len(text) > SIZE:
        raise ToolError("grub-editenv: error: environment block too small.", 1)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text.ljust(SIZE, "#"))
    os.replace(f"{path}.new", path)


def edit(argv: list[str]) -> None:
    """grub-editenv FILE create | list | set NAME=VALUE… | unset NAME…"""
    path, verb, *words = argv
    if verb == "create":
        return write_block(path, {})
    values = read_block(path)
    if verb == "list":
        sys.stdout.write("".join(f"{name}={value}\n" for name, value in values.items()))
        return None
    for word in words:
        name, _, value = word.partition("=")
        values.pop(name, None)
        if verb == "set":
            values[name] = value
    return write_block(path, values)


def write_menu(system: str, root: str = "") -> None:
    """With that system as the default, and all generations below, the newest first."""
    folder, profiles = f"{root}{FOLDER}", os.path.dirname(f"{root}{PROFILE}")
    numbers = [int(found[1]) for name in os.listdir(profiles) if (found := re.fullmatch(r"system-(\d+)-link", name))]
    text = MENU + ENTRY % ("NixOS - Default", system) + 'submenu "NixOS - All configurations" {\n'
    for number in sorted(numbers, reverse=True):
        text += ENTRY % (f"NixOS - Configuration {number}", os.readlink(f"{profiles}/system-{number}-link"))
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/grub.cfg.tmp", "w", encoding="utf-8") as file:
        file.write(text + "}\n")
    os.replace(f"{folder}/grub.cfg.tmp", f"{folder}/grub.cfg")


def install(argv: list[str]) -> None:
    """lab-boot-menu SYSTEM: what NixOS's boot loader script does."""
    write_menu(os.path.realpath(argv[0]))


def choose(argv: list[str]) -> None:
    """lab-boot-choose: print the system that this boot takes, and forget an entry that was for this boot alone."""
    del argv
    path = f"{FOLDER}/grub.cfg"
    if not os.path.exists(path):  # installed before the lab had a menu
        sys.stdout.write(f"{os.path.realpath(PROFILE)}\n")
        return
    with open(path, encoding="utf-8") as file:
        default, *generations = re.findall(r"init=(\S+)/init", file.read())
    block = f"{FOLDER}/grubenv"
    values = read_block(block) if os.path.exists(block) else {}
    once = values.pop("next_entry", "")
    if once:
        write_block(block, values)
    found = re.fullmatch(r"1>(\d+)", once)
    number = int(found[1]) if found else len(generations)
    sys.stdout.write(f"{generations[number] if number < len(generations) else default}\n")
