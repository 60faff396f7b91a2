"""The network to begin with: written where there is none, and what to type next."""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path

from nixops_proxmox.cli.arguments import NETWORK_FILES
from nixops_proxmox.cli.init.account import SetUp
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError, DeployError
from nixops_proxmox.messages.findings import finding_json, finding_lines
from nixops_proxmox.messages.shapes import setup
from nixops_proxmox.messages.starter import flake_texts, lab_text, network_text, offer_json
from nixops_proxmox.model import Level
from nixops_proxmox.operations.beginning import FirstChoice
from nixops_proxmox.paths import expanded, nix_dir
from nixops_proxmox.pve.wire import profiles
from nixops_proxmox.spelling import PROGRAM
from nixops_proxmox.ssh import files

STATUS = 2  # something is missing that a deploy needs
TOLD = ("connection", "permissions", "installer ISO")  # subjects that are told although all is well with them
ISO = "installer ISO"  # a finding's subject: it is not there yet, and uploading it is the next step


def write_network(args: argparse.Namespace, screen: Screen, name: str, choice: FirstChoice) -> str:
    """Returns the network's file. Empty: none was wanted."""
    folder = expanded(args.folder)
    if args.write == "none":
        return ""
    there = next((one for one in NETWORK_FILES if (folder / one).is_file()), "")
    if there:
        screen.say(f"network: {folder / there} is there, and stays as it is")
        return str(folder / there)
    file = ""
    for file, text in _texts(args, name, choice).items():
        _write(folder / file, text, screen)
    return str(folder / file)


def _texts(args: argparse.Namespace, name: str, choice: FirstChoice) -> Mapping[str, str]:
    if args.lab:
        if args.write == "flake":
            raise ConfigError("the lab's systems come from a file", hint="leave out --write")
        return {"network.nix": lab_text(choice, name, str(nix_dir() / "lab" / "system.nix"))}
    if args.write == "flake":
        return flake_texts(choice, name)
    return {"network.nix": network_text(choice, name, has_nixpkgs=_has_nixpkgs())}


def _has_nixpkgs() -> bool:
    """Does Nix find <nixpkgs> by itself?"""
    from nixops_proxmox.nixeval.runner import ProcessRunner
    from nixops_proxmox.nixeval.tools import find_nix

    nix = find_nix()
    if nix is None:
        return False
    return ProcessRunner()(nix.argv("nix-instantiate", "--find-file", "nixpkgs"), timeout=30).status == 0


def _write(path: Path, text: str, screen: Screen) -> None:
    """Whole or not at all, and never over another file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = files.create_file(path, screen.spell(text), mode=0o644)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    screen.say(f"network: written to {path}" if new else f"network: {path} is there, and stays as it is")


def tell_end(args: argparse.Namespace, screen: Screen, name: str, found: SetUp, written: str) -> int:
    problems = [one for one in found.findings if one.level is Level.PROBLEM and one.subject != ISO]
    steps = next_steps(args, name, found.choice, written, missing=bool(problems))
    if args.json:
        who = profiles.named_in(profiles.load_table(name))
        told: setup.SetUpJson = {
            "profile": name,
            "identity": who,
            "network": written or None,
            **offer_json(found.offer),
            "findings": [finding_json(one) for one in found.findings],
            "next": steps,
        }
        screen.json(told)
        return STATUS if problems else 0
    for finding in found.findings:
        if finding.level is not Level.OK or finding.subject in TOLD or finding.subject.startswith("place"):
            screen.show(finding_lines(finding))
    screen.say("next:")
    for step in steps:
        screen.say(f"  {step}")
    return STATUS if problems else 0


def next_steps(args: argparse.Namespace, name: str, choice: FirstChoice, written: str, *, missing: bool) -> list[str]:
    """Commands, in their order; the first one that is needed is the first."""
    by = f" --profile {name}" if name != profiles.DEFAULT else ""
    if args.read_only:
        return [f"{PROGRAM}{by} adopt --dry-run VMID    (what is VM VMID, as a machine?)"]
    steps = [f"cd {shlex.quote(args.folder)}"] if written and args.folder != "." else []
    if missing:
        steps.append(f"{PROGRAM} doctor --apply{by}")
    if _lacks_nix():
        steps.append("apt install nix-bin    (or see https://nixos.org/download: systems are built by Nix)")
    if not choice.has_iso:
        steps.append("nix build github:RaitoBezarius/nixops-proxmox#installer-iso")
        steps.append(f"{PROGRAM} iso upload{by} --storage {choice.iso.partition(':')[0]} result/iso/*.iso")
    return [*steps, f"{PROGRAM} plan", f"{PROGRAM} deploy"] if written else steps


def _lacks_nix() -> bool:
    from nixops_proxmox.nixeval.tools import get_nix

    try:
        get_nix()
    except DeployError:
        return True
    return False
