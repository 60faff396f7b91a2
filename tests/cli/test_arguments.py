import argparse
from pathlib import Path

import pytest

from nixops_proxmox.cli import parse
from nixops_proxmox.cli.arguments import (
    deployment_name,
    find_deployment,
    find_source,
    get_deployment,
    get_source,
    state_location,
)
from nixops_proxmox.display.arguments import parse_shard, select, share_of
from nixops_proxmox.errors import ConfigError

NAMES = ["app", "db1", "db2", "web"]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([], NAMES),
        (["web"], ["web"]),
        (["db*", "app"], ["app", "db1", "db2"]),
        (["--only", "db*", "--except", "*2"], ["db1"]),
        (["--except", "db?"], ["app", "web"]),
        (["--except", "*"], []),
    ],
)
def test_machines_are_chosen_by_pattern_in_their_own_order(words: list[str], chosen: list[str]) -> None:
    assert select(NAMES, parse(["deploy", *words])) == chosen


def test_each_machine_is_in_one_share() -> None:
    shares = [share_of(NAMES, (which, 3)) for which in (1, 2, 3)]
    assert sorted(name for share in shares for name in share) == sorted(NAMES)
    assert {len(share) for share in shares} <= {len(NAMES) // 3, len(NAMES) // 3 + 1}
    assert share_of(NAMES, None) == NAMES and share_of(NAMES, (9, 9)) == []


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no share, such as 1/4"):
        parse_shard(text)


@pytest.mark.parametrize("words", [["wbe"], ["--except", "wbe"], ["--only", "wbe"]])
def test_a_wrong_machine_is_told_the_nearest_name(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="no machine 'wbe'") as caught:
        select(NAMES, parse(["deploy", *words]))
    assert caught.value.hint == "did you mean 'web'?"


def test_a_machine_like_no_other_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError) as caught:
        select(NAMES, parse(["deploy", "zzzzzz"]))
    assert caught.value.hint == "there are: app, db1, db2, web"


def test_common_options_may_stand_before_and_after_the_verb() -> None:
    assert parse(["--state", "x", "deploy"]).state == "x"
    assert parse(["deploy", "--state", "x"]).state == "x"
    assert parse(["-v", "deploy"]).verbose == 1
    assert parse(["deploy", "-vv"]).verbose == 2
    assert parse(["deploy"]).verbose == 0


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/ann/shop/network.nix", "shop"),
        ("/home/ann/shop/default.nix", "shop"),
        ("/home/ann/shop/test.nix", "shop-test"),
        ("/home/ann/my shop!/network.nix", "my-shop"),
        ("github:ann/shop#eu", "shop-eu"),
        ("github:ann/shop", "shop"),
        ("path:/home/ann/shop?ref=x#eu", "shop-eu"),
        ("path:/home/ann/all?dir=shop#eu", "shop-eu"),
        ("git+file:///home/ann/all?dir=shop", "shop"),
        ("git+ssh://git@host/ann/all?dir=shop#eu", "all-shop-eu"),
        ('/home/ann/shop#"eu.west"', "shop-eu.west"),
        ("nixpkgs", "nixpkgs"),
        ("flake:shop", "shop"),
        ("/network.nix", "default"),
    ],
)
def test_a_deployment_is_called_after_its_network(source: str, name: str) -> None:
    assert deployment_name(source) == name


def test_a_folder_is_called_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    for same in (".#eu", "#eu", "path:.#eu", "git+file:.#eu", "../shop#eu", ".?dir=.#eu"):
        assert deployment_name(same) == "shop-eu", same
    assert deployment_name("network.nix") == "shop"


def test_a_folder_below_a_flake_is_called_after_the_flakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop" / "deep").mkdir(parents=True)
    (tmp_path / "shop" / "flake.nix").touch()
    monkeypatch.chdir(tmp_path / "shop" / "deep")
    assert deployment_name(".") == "shop"


def test_the_network_of_the_current_folder_is_found(tmp_path: Path) -> None:
    args = parse(["deploy"])
    assert find_source(args, tmp_path) == ""
    (tmp_path / "flake.nix").touch()
    assert find_source(args, tmp_path) == str(tmp_path)
    (tmp_path / "network.nix").touch()
    assert find_source(args, tmp_path) == str(tmp_path / "network.nix")
    assert find_source(parse(["deploy", "--flake", ".#x"]), tmp_path) == ".#x"


def test_two_networks_or_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="two networks"):
        find_source(parse(["deploy", "-f", "a.nix", "--flake", "b"]))
    with pytest.raises(ConfigError, match="no network here"):
        get_source(parse(["deploy"]))


def test_the_deployment_is_as_said_then_by_environment_then_by_folder_then_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    variable = {"NIXOPS_PROXMOX_DEPLOYMENT": "env"}
    assert find_deployment(parse(["--deployment", "said", "status"]), variable) == "said"
    assert find_deployment(parse(["-f", "/x/shop/network.nix", "status"]), variable) == "env"
    assert find_deployment(parse(["-f", "/x/shop/network.nix", "status"]), {}) == "shop"
    assert get_deployment(parse(["status"]), lambda: ["only"]) == "only"
    with pytest.raises(ConfigError, match="one, two"):
        get_deployment(parse(["status"]), lambda: ["one", "two"])


@pytest.mark.parametrize("name", ["../up", "a/b", "-x", "ü", "."])
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a deployment's name"):
        find_deployment(parse([f"--deployment={name}", "status"]), {})


def test_a_password_on_the_command_line_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        state_location(parse(["--state", "postgresql://u:hunter2@h/d", "status"]))
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"
    assert state_location(parse(["status"]), {"NIXOPS_PROXMOX_STATE": "postgresql://u:p@h/d"}).endswith("@h/d")
