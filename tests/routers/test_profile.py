"""`routers.toml`: what is read, and what is refused."""

from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.routers import Reservation, RouterProfile, find_conflict, load_router, open_router

GOOD = """\
[lan]
type = "kea"
endpoint = "https://router.example.org:8000/"
fingerprint = "AA:BB{rest}"
username = "nixops"
secret_command = "printf s3cret"
ipv6 = true
"""


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "routers.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_router_is_read_and_its_secret_comes_from_a_command(tmp_path: Path) -> None:
    profile = load_router("lan", path=write(tmp_path, GOOD.replace("{rest}", ":CC" * 30)))
    assert (profile.type, profile.endpoint, profile.settings) == (
        "kea",
        "https://router.example.org:8000",
        {"ipv6": True},
    )
    assert profile.get_secret() == "s3cret" and "s3cret" not in repr(profile)


def test_a_secret_comes_from_a_file_that_only_the_user_may_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    file = write(tmp_path, f'[lan]\ntype = "kea"\nsecret_file = "{secret}"\n')
    assert load_router("lan", path=file).get_secret() == "s3cret"
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="may be read by others"):
        load_router("lan", path=file)


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ('[lan]\ntype = "kea"\n', 0o644, "may be read by others"),
        ('[wan]\ntype = "kea"\n', 0o600, "there is no router 'lan'"),
        ('[lan]\ntyp = "kea"\n', 0o600, "unknown key 'typ'"),
        ("[lan]\n", 0o600, "`type` must be text"),
        ('[lan]\ntype = "kea"\nendpoint = "router"\n', 0o600, "must be written like https://"),
        ('[lan]\ntype = "kea"\nsecret = "a"\nsecret_file = "b"\n', 0o600, "more than one of secret"),
        ('[lan]\ntype = "kea"\nfingerprint = "AA"\n', 0o600, "not a SHA-256 fingerprint"),
        ("lan = 1\n", 0o600, "outside of a router"),
        ("[lan", 0o600, "is not TOML"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, mode: int, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_router("lan", path=write(tmp_path, text, mode))
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (RouterProfile("lan", "cisco"), "there is no type 'cisco'"),
        (RouterProfile("lan", "kea"), "`endpoint` is missing"),
        (RouterProfile("lan", "kea", "http://10.9.0.1:8000"), "is not encrypted"),
        (RouterProfile("lan", "dnsmasq"), "`directory` must be the absolute path"),
    ],
)
def test_a_driver_asks_for_what_it_needs(profile: RouterProfile, told: str) -> None:
    with pytest.raises(ConfigError, match=told), open_router(profile):
        pass


def test_an_entry_of_somebody_else_with_the_same_address_is_named() -> None:
    web = Reservation("campus/web.net0", "de:ad:be:ef:00:01", "10.9.0.23")
    other = Reservation("", "de:ad:be:ef:00:02", "10.9.0.23", hostname="printer")
    found = find_conflict(web, [web, other], "the router lan")
    assert found is not None and "printer" in found.message and "the same IPv4 address" in found.message
    assert find_conflict(web, [web], "the router lan") is None


def test_a_command_that_prints_no_secret_is_named(tmp_path: Path) -> None:
    for command, told in (("printf ' '", "printed nothing"), ("false", "exit status 1"), ("/no/such", "cannot be run")):
        text = GOOD.replace("{rest}", ":CC" * 30).replace("printf s3cret", command)
        with pytest.raises(ConfigError, match=f"the router lan: secret_command.*{told}"):
            load_router("lan", path=write(tmp_path, text)).get_secret()
