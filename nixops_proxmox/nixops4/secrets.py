"""The keys and files of a `nixos`: where a secret is, and never what it is, because NixOps 4 keeps what it is told.

A `vm` has them from the record: it may install its machine again, and must not take its keys away."""

import json
from collections.abc import Mapping
from typing import Any

from nixops_proxmox.errors import SpecError
from nixops_proxmox.model import Machine
from nixops_proxmox.nixops4.inputs import NixosInputs
from nixops_proxmox.spec import MachineSpec, NetworkSpec, parse_secrets

SECRETS = "nixops4.secrets"  # where the record keeps what a `nixos` said of them
WORDS = {"keys": "keyFile", "files": "file"}  # by the input: what names a file here
MADE_BY_NIX = "path"  # it follows from the others


def said_secrets(inputs: NixosInputs) -> dict[str, str]:
    """For the record. Raises SpecError for a secret that is said itself."""
    said = {option: _said(option, getattr(inputs, option)) for option in WORDS}
    return {SECRETS: json.dumps(said)}


def _said(option: str, described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _one(f"nixos.{option}.{name}", WORDS[option], one) for name, one in described.items()}


def _one(path: str, word: str, one: object) -> object:
    if not isinstance(one, Mapping):
        raise SpecError("expected an attribute set", path=path)
    said = {key: value for key, value in one.items() if value is not None and key != MADE_BY_NIX}
    if "text" in said:
        raise SpecError(
            "NixOps 4 keeps it in its state, and a secret does not belong there",
            path=f"{path}.text",
            hint=f"say where it is: {word}, or a command that prints it",
        )
    file = said.get(word)
    if isinstance(file, str) and not file.startswith(("/", "~")):
        raise SpecError(
            "expected an absolute path: the provider is started in any folder",
            path=f"{path}.{word}",
            hint=f'write it as a string: {word} = "/home/me/token";',
        )
    return said


def with_secrets(network: NetworkSpec, spec: MachineSpec, kept: Mapping[str, str]) -> NetworkSpec:
    """The network, in which the machine has what is `kept` of its keys and files."""
    text = kept.get(SECRETS)
    if text is None:
        return network
    said = json.loads(text)
    keys, files = parse_secrets(spec.name, said["keys"], said["files"], spec)
    sent, placed = {**network.sent_keys, spec.name: keys}, {**network.placed_files, spec.name: files}
    return network.model_copy(update={"sent_keys": sent, "placed_files": placed})


def recorded_secrets(network: NetworkSpec, spec: MachineSpec, machine: Machine) -> NetworkSpec:
    return with_secrets(network, spec, machine.facts.extra)
