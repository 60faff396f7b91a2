"""What is left of Nix's words: one error as Nix 2.8 writes it, which puts it first, and 2.26, which puts it last."""

import pytest

from nixops_proxmox.nixeval.trace import Failure, UntilError, explain_failure, find_warnings, nix_message

OURS = "/n/nix"

OLD = """\
warning: something else
error: out of memory

       at /w/web.nix:3:7:

            2|   deployment.proxmox = {
            3|       memory = throw "out of memory";
             |       ^

       … while evaluating 'simple'

       at /n/nix/eval.nix:172:19:

          172|   simple = where: value:
             |                   ^

       … while evaluating definitions from `/w/web.nix':

       … while evaluating the option `deployment.proxmox.memory':

       … while evaluating the option `deployment.proxmox':

       … while evaluating the machine 'web':
"""

NEW = """\
error:
       … while evaluating attribute 'machines'
         at /n/nix/eval.nix:201:5:
          201|     machines = mapAttrs describe all;
             |     ^

       … while evaluating the machine 'web':

       … while evaluating the option `deployment.proxmox':

       … while evaluating the option `deployment.proxmox.memory':
         at /nix/store/x-source/lib/modules.nix:846:17:
          846|                 let
             |                 ^

       … while evaluating definitions from `/w/web.nix':

       error: out of memory
       at /w/web.nix:3:7:
            2|   deployment.proxmox = {
            3|       memory = throw "out of memory";
             |       ^
"""


@pytest.mark.parametrize("said", [OLD, NEW], ids=["2.8", "2.26"])
def test_machine_option_file_and_place_are_left(said: str) -> None:
    assert explain_failure(said, OURS) == Failure(
        "web",
        """\
error: out of memory
  at /w/web.nix:3:7:
  2|   deployment.proxmox = {
  3|       memory = throw "out of memory";
   |       ^
  … while evaluating definitions from `/w/web.nix'
  … while evaluating the option `deployment.proxmox.memory'""",
    )


def test_our_own_lines_and_the_librarys_are_left_out() -> None:
    told = explain_failure("error: x\n\n  at /n/nix/eval.nix:1:1:\n\n  1| {\n", OURS)
    assert told == Failure(None, "error: x")
    assert (
        explain_failure("error:\n … y\n   at /p/lib/attrsets.nix:1:1:\n   1| {\n\n error: x\n", OURS).words
        == "error: x"
    )


def test_an_error_of_several_lines_stays_whole() -> None:
    said = "error:\n       … while evaluating the machine 'a':\n\n"
    said += "       error:\n       Failed assertions:\n       - one\n       - two\n"
    assert explain_failure(said, OURS) == Failure("a", "error: Failed assertions:\n- one\n- two")


def test_no_machine_is_blamed_where_several_are_named() -> None:
    said = "error: x\n\n … while evaluating the machine 'a':\n\n … while evaluating the machine 'b':\n"
    assert explain_failure(said, OURS).machine is None


@pytest.mark.parametrize("said", ["", "Killed\n", "error:", "error:\n\n …"])
def test_words_that_cannot_be_read_are_handed_on(said: str) -> None:
    assert explain_failure(said, OURS) == Failure(None, said.strip())


def test_what_nix_said_comes_without_the_noise_before_it() -> None:
    assert nix_message("warning: a\ntrace: b\nerror: c\n\n   at d\n") == "error: c\n\n   at d"
    assert nix_message("no error line\n") == "no error line"


def test_warnings_are_told_once_and_whole() -> None:
    said = (
        "warning: Git tree '/w' is dirty\ncopying path 'x'\n"
        "evaluation warning: web: `a` is now `b`\n  and more\ntrace: \x1b[1;31mwarning: old\x1b[0m\n"
        "trace: seen\nevaluation warning: web: `a` is now `b`\n  and more\n"
        "building '/nix/store/y.drv'...\nits output\n"
    )
    assert find_warnings(said) == ["Git tree '/w' is dirty", "web: `a` is now `b`\n  and more", "old", "trace: seen"]


def test_the_error_is_not_told_while_it_comes() -> None:
    told: list[str] = []
    listen = UntilError(told.append)
    for line in ("copying x", "", "error: y", "  at z"):
        listen(line)
    assert told == ["copying x"]
