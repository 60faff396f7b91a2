from pathlib import Path

import pytest

from nixops_proxmox.errors import NixMissing
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.tools import (
    Nix,
    Store,
    explain_store,
    find_nix,
    get_nix,
    parse_version,
    store_flags,
    store_kind,
)
from tests.nixeval.scripted import ScriptedRunner


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nix-instantiate (Nix) 2.8.0\n", (2, 8, 0)),
        ("nix-instantiate (Nix) 2.31.2", (2, 31, 2)),
        ("nix-instantiate (Nix) 2.9.0pre20220525_abcdef", (2, 9, 0)),
        ("nix (Lix, like Nix) 2.91.1", (2, 91, 1)),
        ("nix (Determinate Nix 3.6.0) 2.29", (3, 6, 0)),
        ("no version here", None),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, ...] | None) -> None:
    assert parse_version(text) == version


def test_the_nix_on_path_is_found(tmp_path: Path) -> None:
    program = _program(tmp_path)
    run = ScriptedRunner([Completed(0, "nix-instantiate (Nix) 2.8.0\n")])
    nix = find_nix({"PATH": str(tmp_path), "NIX_REMOTE": "daemon"}, run)
    assert nix == Nix(tmp_path, (2, 8, 0), Store.DAEMON, ())
    assert run.calls == [[str(program), "--version"]]


def test_a_nix_in_the_users_profile_is_found_though_path_is_short(tmp_path: Path) -> None:
    profile = tmp_path / ".nix-profile" / "bin"
    profile.mkdir(parents=True)
    _program(profile)
    nix = find_nix({"PATH": "/nowhere", "HOME": str(tmp_path)}, ScriptedRunner([Completed(0, "(Nix) 2.24.9")]))
    # Another Nix may be installed on the machine that runs this test, and that is looked at first.
    assert nix is not None and nix.directory in (profile, *map(Path, _system_places()))


def test_a_nix_that_does_not_run_is_none(tmp_path: Path) -> None:
    _program(tmp_path)
    assert find_nix({"PATH": str(tmp_path)}, ScriptedRunner([Completed(127, "", "no libc")])) is None


def test_an_old_nix_is_refused_with_a_way_out(tmp_path: Path) -> None:
    _program(tmp_path)
    with pytest.raises(NixMissing, match=r"2\.3\.16; at least 2\.4 is needed") as caught:
        get_nix({"PATH": str(tmp_path)}, ScriptedRunner([Completed(0, "(Nix) 2.3.16")]))
    assert "nix-bin" in caught.value.hint


def test_flags_come_before_the_arguments_and_only_nix_itself_needs_a_feature() -> None:
    nix = Nix(Path("/n"), (2, 8, 0), Store.LOCAL, ("--option", "build-users-group", ""))
    assert nix.argv("nix-store", "--realise", "x") == [
        *("/n/nix-store", "--option", "build-users-group", ""),
        *("--realise", "x"),
    ]
    assert nix.nix_argv("copy", "x")[:4] == ["/n/nix", "--extra-experimental-features", "nix-command", "copy"]
    assert nix.nix_argv("eval", features=["flakes"])[2] == "nix-command flakes"


@pytest.mark.parametrize(
    ("environment", "writable", "kind"),
    [
        ({}, True, Store.LOCAL),
        ({}, False, Store.DAEMON),
        ({"NIX_REMOTE": "daemon"}, True, Store.DAEMON),
        ({"NIX_REMOTE": "auto"}, True, Store.LOCAL),
        ({"NIX_REMOTE": "local?root=/x"}, True, Store.OTHER),
        ({"NIX_CONFIG": "substituters =\nstore = /x"}, True, Store.OTHER),
        ({"NIX_CONFIG": "keep-store = 1"}, True, Store.LOCAL),
    ],
)
def test_the_kind_of_store_follows_nix_own_rule(environment: dict[str, str], writable: bool, kind: Store) -> None:
    assert store_kind(environment, state=Path("/"), may_write=lambda _path: writable) is kind


@pytest.mark.parametrize(
    ("kind", "root", "group", "flagged"),
    [
        (Store.LOCAL, True, False, True),
        (Store.LOCAL, True, True, False),
        (Store.LOCAL, False, False, False),
        (Store.DAEMON, True, False, False),
        (Store.OTHER, True, False, True),
    ],
)
def test_build_users_are_given_up_only_where_there_are_none(
    kind: Store, root: bool, group: bool, flagged: bool
) -> None:
    flags = list(store_flags(kind, is_root=root, has_group=lambda _name: group))
    assert flags == (["--option", "build-users-group", ""] if flagged else [])


@pytest.mark.nix
def test_the_real_nix_tells_its_version(nix: Nix) -> None:
    assert nix.version >= (2, 4)


def _program(directory: Path) -> Path:
    program = directory / "nix-instantiate"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def _system_places() -> tuple[str, ...]:
    return ("/run/current-system/sw/bin", "/nix/var/nix/profiles/default/bin")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("error: setgroups failed: Operation not permitted", "root in name only"),
        ("error: creating directory '/nix/store': Permission denied", "no Nix daemon"),
        ("error: creating directory '/home/me/x': Permission denied", ""),
    ],
)
def test_what_an_older_nix_cannot_do_for_whom_is_said_in_a_sentence(words: str, hint: str) -> None:
    assert hint in explain_store(words) and bool(explain_store(words)) == bool(hint)
