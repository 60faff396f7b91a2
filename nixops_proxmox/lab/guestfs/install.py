"""Stand-ins for nixos-generate-config, nixos-install, nixos-enter and nixos-version: the same options and failures."""

from __future__ import annotations

import getopt
import json
import os
import subprocess
from typing import Any

from nixops_proxmox.lab.guestfs.disks import Device, ToolError, load_disks, mounts, read_lab, say
from nixops_proxmox.lab.guestfs.grub import write_menu

VERSION = "24.11.lab"
STUBS = '{ config = {}; options = {}; pkgs = {}; lib = {}; modulesPath = "/modules"; utils = {}; specialArgs = {}; }'
READ_CONFIGURATION = """
let
  path = %s;
  top = import path;
  module = if builtins.isFunction top then top STUBS else top;
  body = module.config or module;
  get = names: default: set:
    let found = builtins.foldl' (at: name: if at == null then null else at.${name} or null) set names;
    in if found == null then default else found;
  users = get [ "users" "users" ] { } body;
  normal = builtins.filter (name: users.${name}.isNormalUser or false) (builtins.attrNames users);
  isFree = command: (command.command or command) == "ALL" && builtins.elem "NOPASSWD" (command.options or [ ]);
  isOpen = rule: builtins.any isFree (rule.commands or [ ]);
  rules = builtins.filter isOpen (get [ "security" "sudo" "extraRules" ] [ ] body);
  inWheel = builtins.filter (name: builtins.elem "wheel" (users.${name}.extraGroups or [ ])) normal;
in {
  hostName = get [ "networking" "hostName" ] "nixos" body;
  inherit normal;
  keys = builtins.mapAttrs (_: get [ "openssh" "authorizedKeys" "keys" ] [ ]) users;
  trusted = get [ "nix" "settings" "trusted-users" ] [ ] body;
  sudoers = builtins.concatMap (rule: rule.users or [ ]) rules
    ++ (if get [ "security" "sudo" "wheelNeedsPassword" ] true body then [ ] else inWheel);
}
""".replace("STUBS", STUBS)

ACTIVATE = """#!/bin/sh
# The plain system that the lab makes of a configuration.nix.
echo @HOST@ >/etc/hostname
hostname @HOST@ 2>/dev/null
mkdir -p /etc/ssh/authorized_keys.d /etc/sudoers.d
for keys in "$SYSTEM"/etc/authorized_keys/*; do
  [ ! -s "$keys" ] || cat "$keys" >"/etc/ssh/authorized_keys.d/${keys##*/}"
done
while read -r name; do
  grep -q "^$name:" /etc/passwd || echo "$name:x:1000:100::/home/$name:/bin/sh" >>/etc/passwd
done <"$SYSTEM/etc/users"
cat "$SYSTEM/etc/sudoers" >/etc/sudoers.d/system
[ ! -f /etc/nix/nix.conf ] || sed -i "s/^trusted-users = .*/$(cat "$SYSTEM/etc/trusted")/" /etc/nix/nix.conf
"""
SWITCH = """#!/bin/sh
top=$(dirname "$(dirname "$(readlink -f "$0")")")
case "$1" in
switch | test)
  SYSTEM=$top "$top/activate" || exit 1
  ln -sfn "$top" /run/current-system
  lab-services switch "$top"
  [ "$1" = test ] || lab-boot-menu "$top"
  ;;
boot) lab-boot-menu "$top" ;;
dry-activate) lab-services dry-switch "$top" ;;
*) echo "usage: switch-to-configuration switch|boot|test|dry-activate" >&2; exit 1 ;;
esac
"""


def mounted_below(root: str) -> list[tuple[Device, str]]:
    """(device, place in the installed system)."""
    found = []
    for device, point in mounts(load_disks()):
        if point == root or point.startswith(root.rstrip("/") + "/"):
            found.append((device, point[len(root.rstrip("/")) :] or "/"))
    return found


def nixos_generate_config(argv: list[str]) -> None:
    options, _ = getopt.gnu_getopt(
        argv, "", ["root=", "dir=", "force", "no-filesystems", "show-hardware-config", "flake"]
    )
    given = dict(options)
    root = given.get("--root", "").rstrip("/")
    if root and not os.path.isdir(root):
        raise ToolError(f"nixos-generate-config: no such directory {root}", 2)
    hardware = hardware_configuration([] if "--no-filesystems" in given else mounted_below(root or "/"))
    if "--show-hardware-config" in given:
        say(hardware)
        return
    folder = root + given.get("--dir", "/etc/nixos")
    os.makedirs(folder, exist_ok=True)
    say(f"writing {folder}/hardware-configuration.nix...")
    with open(f"{folder}/hardware-configuration.nix", "w", encoding="utf-8") as file:
        file.write(hardware)
    path = f"{folder}/configuration.nix"
    if os.path.exists(path) and "--force" not in given:
        say(f"warning: not overwriting existing {path}")
        return
    say(f"writing {path}...")
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "{ config, lib, pkgs, ... }:\n{\n  imports = [ ./hardware-configuration.nix ];\n"
            '  system.stateVersion = "24.11";\n}\n'
        )


def hardware_configuration(found: list[tuple[Device, str]]) -> str:
    entries = []
    for device, place in found:
        fs = device.fs or {}
        entries.append(
            f'  fileSystems."{place}" =\n    {{ device = "/dev/disk/by-uuid/{fs.get("uuid", "")}";\n'
            f'      fsType = "{fs.get("type", "")}";\n    }};\n'
        )
    swaps = [
        f'      {{ device = "/dev/disk/by-uuid/{fs["uuid"]}"; }}\n'
        for disk in load_disks() for fs in disk.content["fs"].values() if fs["type"] == "swap"
    ]  # fmt: skip
    swap = "  swapDevices =\n    [\n" + "".join(swaps) + "    ];\n" if swaps else "  swapDevices = [ ];\n"
    return (
        "# Do not modify this file!  It was generated by ‘nixos-generate-config’\n"
        "{ config, lib, pkgs, modulesPath, ... }:\n\n{\n"
        '  imports =\n    [ (modulesPath + "/profiles/qemu-guest.nix")\n    ];\n\n'
        '  boot.initrd.availableKernelModules = [ "virtio_pci" "virtio_scsi" "sd_mod" ];\n\n'
        + "\n".join(entries) + "\n" + swap + '\n  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";\n}\n'
    )  # fmt: skip


def nixos_install(argv: list[str]) -> None:
    longs = [
        "root=", "system=", "no-root-passwd", "no-root-password", "no-channel-copy", "no-bootloader", "substituters=",
        "closure=", "flake=", "impure", "verbose", "keep-going", "max-jobs=", "cores=", "show-trace",
        "print-build-logs", "debug", "channel=",
        "no-write-lock-file", "help",
    ]  # fmt: skip
    words, given = list(argv), {}
    while "--option" in words:
        at = words.index("--option")
        del words[at : at + 3]
    try:
        options, rest = getopt.gnu_getopt(words, "vkj:LI:", longs)
    except getopt.GetoptError as error:
        raise ToolError(f"nixos-install: {error}") from error
    given = dict(options)
    if rest:
        raise ToolError(f"nixos-install: unknown option `{rest[0]}'")
    if "--flake" in given:
        raise ToolError("nixos-install: the lab's stand-in knows no flakes; give --system or a configuration.nix")
    root = os.path.realpath(given.get("--root", "/mnt"))
    check_root(root)
    system = given.get("--system") or given.get("--closure") or build_configuration(root)
    set_profile(root, system)
    os.makedirs(f"{root}/etc", exist_ok=True)
    with open(f"{root}/etc/NIXOS", "a", encoding="utf-8"):
        pass
    for link in ("current-system", "booted-system"):
        os.makedirs(f"{root}/run", exist_ok=True)
        if os.path.islink(f"{root}/run/{link}"):
            os.unlink(f"{root}/run/{link}")
    if "--no-bootloader" not in given:
        say("installing the boot loader...")
        install_boot_loader(root)
        if has_boot_loader(f"{root}{os.path.realpath(system)}"):
            write_menu(os.path.realpath(system), root)
    if not {"--no-root-passwd", "--no-root-password"} & set(given) and os.isatty(0):
        say("setting root password...")
    say("installation finished!")


def has_boot_loader(system: str) -> bool:
    """Whether its switch-to-configuration writes the menu. Where none does, a guest boots what its profile is."""
    try:
        with open(f"{system}/bin/switch-to-configuration", encoding="utf-8", errors="replace") as file:
            return "lab-boot-menu" in file.read()
    except OSError:
        return False


def check_root(root: str) -> None:
    if not os.path.exists(root):
        raise ToolError(f"mount point {root} doesn't exist")
    path = root
    while path != "/":
        mode = os.stat(path).st_mode & 0o777
        if mode & 0o5 != 0o5:
            raise ToolError(
                f"path {path} should have permissions 755, but had permissions {mode:o}."
                f" Consider running 'chmod o+rx {path}'."
            )
        path = os.path.dirname(path)


def nix(argv: list[str], **more: Any) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, **more)
    if done.returncode != 0:
        raise ToolError("", done.returncode)
    return str(done.stdout).strip()


def set_profile(root: str, system: str) -> None:
    os.makedirs(f"{root}/nix/var/nix/profiles", exist_ok=True)
    nix(["nix-env", "--store", f"local?root={root}", "-p", f"{root}/nix/var/nix/profiles/system", "--set", system])
    if not os.access(f"{root}{os.path.realpath(system)}/activate", os.X_OK):
        raise ToolError(f"chroot: failed to run command '{system}/activate': No such file or directory", 127)


def build_configuration(root: str) -> str:
    """With the real Nix: syntax and evaluation errors are its own."""
    path = f"{root}/etc/nixos/configuration.nix"
    if not os.path.exists(path):
        raise ToolError(f"configuration file {path} doesn't exist")
    say(
        "building the configuration in /mnt/etc/nixos/configuration.nix..."
        if root == "/mnt"
        else f"building the configuration in {path}..."
    )
    nix(["nix-instantiate", "--parse", path], stderr=None)
    text = nix(["nix-instantiate", "--eval", "--strict", "--json", "-E", READ_CONFIGURATION % path])
    told = json.loads(text)
    host = told["hostName"]
    folder = f"/run/nixos-system-{host}-{VERSION}"
    subprocess.run(["rm", "-rf", folder], check=True)
    write_system(folder, host, told)
    return nix(["nix-store", "--store", f"local?root={root}", "--add", folder])


def write_system(folder: str, host: str, told: dict[str, Any]) -> None:
    keys = {f"etc/authorized_keys/{name}": (_lines(keys), 0o644) for name, keys in told["keys"].items()}
    files = {
        "activate": (ACTIVATE.replace("@HOST@", host), 0o755),
        "bin/switch-to-configuration": (SWITCH, 0o755),
        "nixos-version": (VERSION, 0o644),
        "system": ("x86_64-linux", 0o644),
        "etc/hostname": (host + "\n", 0o644),
        "etc/trusted": (" ".join(["trusted-users = root", *told["trusted"]]) + "\n", 0o644),
        "etc/users": (_lines(told["normal"]), 0o644),
        "etc/sudoers": (_lines([f"{name} ALL=(ALL:ALL) NOPASSWD: ALL" for name in told["sudoers"]]), 0o644),
        **keys,
    }
    for name, (text, mode) in files.items():
        path = f"{folder}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)


def _lines(entries: list[str]) -> str:
    return "".join(f"{entry}\n" for entry in entries)


def install_boot_loader(root: str) -> None:
    """From now on the disk that holds `/` boots by itself. The same refusals as grub-install and bootctl."""
    places = mounted_below(root)
    top = next((device for device, place in places if place == "/"), None)
    if top is None:
        raise ToolError(
            f"Failed to get blkid info (returned 512) for / on tmpfs at {root}: nothing is mounted there\n"
            "failed to install the boot loader",
            1,
        )
    if read_lab()["uefi"]:
        esp = [
            place
            for device, place in places
            if place in ("/boot", "/boot/efi", "/efi") and (device.fs or {}).get("type") == "vfat"
        ]
        if not esp:
            raise ToolError(
                'File system "/boot" is not a FAT EFI System Partition (ESP) file system.\n'
                "failed to install the boot loader",
                1,
            )
    elif top.disk.content["table"] == "gpt" and not any(
        part["type"].lower() == "ef02" for part in top.disk.content["parts"].values()
    ):
        raise ToolError(
            "grub-install: warning: this GPT partition label contains no BIOS Boot Partition;"
            " embedding won't be possible.\n"
            "grub-install: error: will not proceed with blocklists.\nfailed to install the boot loader", 1,
        )  # fmt: skip
    below = {place: (device.fs or {})["uuid"] for device, place in places if place != "/"}
    top.disk.content["boot"] = {"root": top.part, "mounts": below}
    top.disk.save()


def nixos_enter(argv: list[str]) -> None:
    options, command = getopt.getopt(argv, "c:", ["root=", "system=", "command=", "silent"])
    given = dict(options)
    root = given.get("--root", "/mnt")
    if not os.path.exists(f"{root}/etc/NIXOS"):
        raise ToolError(f"{root} is not a NixOS system", 126)
    text = given.get("-c") or given.get("--command")
    environment = {**os.environ, "PATH": "/run/current-system/sw/bin:" + os.environ["PATH"]}
    done = subprocess.run(
        ["chroot", root, *(["/bin/sh", "-c", text] if text else command or ["/bin/sh"])], env=environment, check=False
    )
    if done.returncode:
        raise ToolError("", done.returncode)


def nixos_version(_: list[str]) -> None:
    for path in ("/run/current-system/nixos-version", "/etc/nixos-version"):
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                say(file.read().strip())
            return
    say(VERSION)
