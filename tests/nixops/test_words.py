"""The document on NixOps 2, word for word: its network, and every `nixops` command in it, in order."""

import re
import shlex
from pathlib import Path

import pytest

from tests.nixops.bed import Nixops
from tests.nixops.conftest import MakeNixops

pytestmark = [pytest.mark.nixops, pytest.mark.nix, pytest.mark.netns, pytest.mark.slow]


def test_what_the_document_says_works(make_nixops: MakeNixops, root: Path) -> None:
    text = (root / "docs" / "with-nixops2.md").read_text()
    network = re.search(r"(?s)`nixops\.nix`:\n\n```nix\n(.*?)```", text)
    commands = re.findall(r"(?m)^\$ (nixops .*)$", text)
    assert network is not None and len(commands) > 20
    made: Nixops = make_nixops(network[1], create=False)
    # Who follows the document says yes where a command asks: `restore` does.
    said = {command: made.run(*shlex.split(command, comments=True)[1:], stdin="y\n").stdout for command in commands}
    assert said["nixops ssh -d shop web uname -n"] == "web\n"
    assert "Up / Up-to-date" in said["nixops info -d shop"]
    assert "complete" in said["nixops backup-status -d shop"]
    assert "nothing to do" in said["nixops proxmox -d shop plan"]
