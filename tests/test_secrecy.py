"""Secrets are blanked wherever somebody repeats them; what only looks a little like one stays."""

import json
from urllib.parse import quote

import pytest

from nixops_proxmox.secrecy import Register
from nixops_proxmox.ssh.keys import new_key_pair

TOKEN = "0f3c9a52-7d41-4a67-9d0e-3c5d1b8f2a10"
TICKET = "PVE:root@pam:6650A1B2::dGhpcyBpcyBub3QgYSByZWFsIHNpZ25hdHVyZQ=="
CSRF = "6650A1B2:c29tZXRoaW5nIHRoYXQgbG9va3MgbGlrZSBhIHRva2Vu"


@pytest.mark.parametrize(
    "echoed",
    [
        f"Authorization: PVEAPIToken=deploy@pve!ops={TOKEN}",
        f"'authorization': 'PVEAPIToken=deploy@pve!ops={TOKEN}', 'accept': '*/*'",
        f"Cookie: PVEAuthCookie={TICKET}",
        f"Cookie: PVEAuthCookie={quote(TICKET)}",
        f"CSRFPreventionToken: {CSRF}",
        f'{{"CSRFPreventionToken": "{CSRF}", "ticket": "{TICKET}"}}',
        "Authorization: Basic cm9vdEBwYW06aHVudGVyMg==",
        f"PVEVNC:6650A1B2::{'QUJD' * 12}",
    ],
)
def test_what_is_spelled_like_a_secret_is_blanked_though_nobody_has_told_us(echoed: str) -> None:
    told = Register().redact(f"the proxy says: {echoed} (end)")
    for secret in (
        TOKEN,
        TICKET.partition("::")[2],
        quote(TICKET).partition("3A%3A")[2],
        CSRF,
        "cm9vdEBwYW06aHVudGVyMg",
    ):
        assert secret not in told
    assert "QUJDQUJD" not in told
    assert told.startswith("the proxy says: ")


@pytest.mark.parametrize("secret", ["tr0ub4dor&3 %äß\"'\\", TOKEN, "hunter2", "a+b/c=d%41e"])
@pytest.mark.parametrize("spell", [str, quote, lambda text: quote(text, safe=""), lambda text: json.dumps(text)[1:-1]])
def test_a_secret_is_blanked_however_it_is_spelled(secret: str, spell: "type[str]") -> None:
    register = Register()
    register.learn(secret)
    assert register.redact(f"it was <{spell(secret)}>.") == "it was <***>."


def test_the_longer_of_two_secrets_goes_first() -> None:
    register = Register()
    register.learn("deploy@pve!ops=" + TOKEN, TOKEN)
    assert register.redact(f"deploy@pve!ops={TOKEN} and {TOKEN}") == "*** and ***"


def test_words_are_no_secrets_for_being_short_or_part_of_others() -> None:
    register = Register()
    register.learn("", "x", "root", "secret")
    assert register.redact("root has x secrets") == "root has x secrets"
    assert register.redact("the secret") == "the ***"


def test_a_private_key_is_blanked_whole_in_part_and_line_by_line() -> None:
    register, pair = Register(), new_key_pair("me")
    register.learn_key(pair.private)
    lines = pair.private.splitlines()[1:-1]
    assert register.redact(f"was: {pair.private} end") == "was: ***\n end"
    for text in (
        lines[2],
        lines[1][5:50],
        "".join(lines),
        pair.private[:200],
        json.dumps(pair.private),
        pair.private[90:],
    ):
        told = register.redact(f"log: {text} :end")
        assert not [line for line in lines if line.rstrip("=") in told], told
        assert lines[1][10:40] not in told


def test_public_keys_and_store_paths_stay() -> None:
    register, pair = Register(), new_key_pair("me")
    register.learn_key(pair.private)
    for text in (
        pair.public,
        "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system",
        "UPID:pve1:0001:02:0A:qmcreate:100:a@pve!b:",
    ):
        assert register.redact(text) == text
