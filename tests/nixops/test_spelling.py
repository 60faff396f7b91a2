"""What texts recommend, in words that NixOps 2 has."""

import re

import pytest

from nixops_proxmox.nixops2.spelling import spelled, spelling
from nixops_proxmox.spelling import Verb, command
from tests.nixops.conftest import MakeNixops

FLAGS = {Verb.DEPLOY: ["--allow-recreate", "--allow-reboot"]}


@pytest.mark.parametrize(
    ("verb", "words", "said"),
    [
        (Verb.DEPLOY, (), "`nixops deploy`"),
        (Verb.DEPLOY, ("--allow-recreate",), "`nixops deploy --allow-recreate`"),
        (Verb.DESTROY, ("web",), "`nixops destroy --include web`"),
        (Verb.RECOVER, (), "`nixops proxmox recover`"),
        (Verb.HISTORY, ("web",), "`nixops proxmox history web`"),
        (Verb.STATUS, ("--endpoints",), "`nixops check`"),
        (Verb.ISO_UPLOAD, (), "`nixops-proxmox iso upload`"),
        (Verb.BREAK_LOCK, (), "say `nixops unlock`"),
    ],
)
def test_each_verb_is_spelled_as_nixops_has_it(verb: Verb, words: tuple[str, ...], said: str) -> None:
    assert spelled(f"{command(verb, *words)} does it") == f"{said} does it"


@pytest.mark.nixops
@pytest.mark.nix
@pytest.mark.netns
@pytest.mark.slow
def test_nixops_has_every_command_that_is_spelled(make_nixops: MakeNixops) -> None:
    one = make_nixops("{ }", create=False)
    for verb in Verb:
        (said,) = re.findall(r"`(.*)`", spelling(verb, FLAGS.get(verb, [])))
        if said.startswith("nixops "):
            told = one.run(*said.split()[1:], "--help").stdout
            assert all(flag in told for flag in FLAGS.get(verb, [])), told
