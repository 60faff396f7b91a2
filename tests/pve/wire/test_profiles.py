"""Profiles: what users write, and what they are told when it is wrong."""

import base64
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Completed
from nixops_proxmox.pve.wire.credentials import run_command, secret_of
from nixops_proxmox.pve.wire.profiles import list_profiles, load_profile, parse_profile, without_secrets
from nixops_proxmox.pve.wire.servers import parse_server

SECRET = "11111111-2222-3333-4444-555555555555"
TOKEN = f"deploy@pve!ops={SECRET}"
PIN = "AB:" * 31 + "AB"


def write(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "profiles.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("head", ["[lab]", "[profiles.lab]"])
def test_a_profile_is_read(tmp_path: Path, head: str) -> None:
    text = f'{head}\nendpoint = "https://pve1:8006"\ntoken = "{TOKEN}"\nfingerprint = "{PIN}"\nnamespace = "/run/x"\n'
    profile = load_profile("lab", path=write(tmp_path, text), environ={})
    assert [str(endpoint) for endpoint in profile.servers] == ["https://pve1:8006"]
    assert (profile.token, profile.fingerprint, profile.namespace) == (TOKEN, "ab" * 32, "/run/x")


def test_several_endpoints_keep_their_order() -> None:
    profile = parse_profile("x", {"endpoints": ["pve2", "pve1", "pve2"], "token": TOKEN})
    assert [endpoint.host for endpoint in profile.servers] == ["pve2", "pve1"]
    assert parse_profile("x", {"endpoint": "a, b", "token": TOKEN}).servers[1].host == "b"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="may be read by others") as caught:
        load_profile(path=write(tmp_path, "", mode), environ={})
    assert "chmod 600" in caught.value.hint


def test_no_secret_is_in_a_repr() -> None:
    profile = parse_profile(
        "x", {"endpoint": "a", "username": "root@pam", "password": "hunter2", "totp_secret": "AAAA"}
    )
    assert "hunter2" not in repr(profile)
    assert "AAAA" not in repr(profile)
    assert SECRET not in repr(parse_profile("x", {"endpoint": "a", "token": TOKEN}))
    assert without_secrets(profile).password == ""


@pytest.mark.parametrize(
    ("table", "why", "hint"),
    [
        ({"endpoint": "a", "tokne": TOKEN}, "unknown key 'tokne'", "`token`"),
        ({"endpiont": "a"}, "unknown key 'endpiont'", "`endpoint`"),
        ({"token": TOKEN}, "`endpoint` is missing", "https://"),
        ({"endpoint": "a"}, "no credentials", "token"),
        ({"endpoint": "a", "token": "deploy@pve!ops"}, "user@realm!name=secret", ""),
        ({"endpoint": "a", "token": "deploy!ops=x"}, "user@realm!name=secret", ""),
        ({"endpoint": "a", "token": TOKEN + "\nX: y"}, "text on one line", ""),
        ({"endpoint": "a", "password": "x"}, "username", ""),
        ({"endpoint": "a", "password": "x", "username": "root"}, "user@realm", ""),
        ({"endpoint": "a", "password": "x", "username": "root@pam", "token": TOKEN}, "more than one", ""),
        ({"endpoint": "a", "token": TOKEN, "insecure": True}, "never switched off", "fingerprint"),
        ({"endpoint": "a", "token": TOKEN, "verify_ssl": False}, "never switched off", "fingerprint"),
        ({"endpoint": "a", "token": TOKEN, "fingerprint": "ab:cd"}, "not a SHA-256 fingerprint", "openssl"),
        ({"endpoint": "a", "url": "b", "token": TOKEN}, "a second time", ""),
        ({"endpoint": 7, "token": TOKEN}, "`endpoints` must be", ""),
        ({"endpoint": "http://a", "token": TOKEN}, "PVE needs https", ""),
        ({"endpoint": "a", "token": TOKEN, "vmids": [5, 9]}, "`vmids` must be", ""),
        ({"endpoint": "a", "token": TOKEN, "vmids": "900-200"}, "`vmids` must be", ""),
        ({"endpoint": "a", "token": TOKEN, "parallel": 0}, "`parallel` must be", ""),
        ({"endpoint": "a", "token": TOKEN, "reserve": True}, "`reserve` must be", ""),
        ({"endpoint": "a", "token_command": []}, "`token_command` must be", ""),
        ({"endpoint": "a", "token_command": "a 'b"}, "`token_command` must be", ""),
        ({"endpoint": "a", "token_id": "u@pve!t"}, "a token needs its name and its secret", ""),
    ],
)
def test_what_is_wrong_is_said_without_secrets(table: dict[str, Any], why: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile("x", table)
    assert why in caught.value.message
    assert hint in caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("text", ["not toml", "a = 1\n", "profiles = 3\n", "[a]\nx = [", "\x00"])
def test_what_is_no_profile_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_profile("a", path=write(tmp_path, text), environ={})


@pytest.mark.parametrize(
    "table",
    [
        {"token_id": "deploy@pve!ops", "token_secret": SECRET},
        {"username": "deploy@pve", "token_name": "ops", "token_value": SECRET},
        {"api_token": f"PVEAPIToken={TOKEN}"},
        {"token": "deploy@pve!ops", "token_secret": SECRET},
    ],
)
def test_a_token_may_be_given_in_parts(table: dict[str, str]) -> None:
    assert parse_profile("x", {"endpoint": "a", **table}).token == TOKEN


def test_the_environment_alone_is_a_profile(tmp_path: Path) -> None:
    none = tmp_path / "none.toml"
    environ = {"PROXMOX_VE_ENDPOINT": "https://pve1/", "PROXMOX_VE_API_TOKEN": TOKEN}
    assert load_profile(path=none, environ=environ).token == TOKEN
    assert list_profiles(path=none, environ=environ) == ("default",)
    environ = {"PROXMOX_VE_ENDPOINT": "a", "PROXMOX_VE_USERNAME": "root@pam", "PROXMOX_VE_PASSWORD": "p"}
    assert load_profile(path=none, environ=environ | {"PROXMOX_VE_OTP": "012345"}).otp == "012345"
    with pytest.raises(ConfigError, match="no profile 'other'"):
        load_profile("other", path=none, environ=environ)


def test_the_environment_replaces_credentials_as_a_whole(tmp_path: Path) -> None:
    path = write(
        tmp_path, '[default]\nendpoint = "a"\nusername = "root@pam"\npassword = "p"\n[b]\nhost="b"\ntoken_command="x"\n'
    )
    profile = load_profile(path=path, environ={"PROXMOX_VE_API_TOKEN": TOKEN})
    assert (profile.token, profile.password, profile.servers[0].host) == (TOKEN, "", "a")
    assert load_profile("b", path=path, environ={"PROXMOX_VE_API_TOKEN": TOKEN}).token == ""
    named = {"PROXMOX_VE_API_TOKEN": TOKEN, "PROXMOX_VE_PROFILE": "b"}
    assert load_profile("b", path=path, environ=named).token == TOKEN
    assert load_profile(path=path, environ=named).password == "p"


def test_insecure_is_refused_unless_trust_is_given(tmp_path: Path) -> None:
    environ = {"PROXMOX_VE_ENDPOINT": "a", "PROXMOX_VE_API_TOKEN": TOKEN, "PROXMOX_VE_INSECURE": "true"}
    none = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match="never switched off"):
        load_profile(path=none, environ=environ)
    assert load_profile(path=none, environ=environ | {"PROXMOX_VE_FINGERPRINT": PIN}).fingerprint == "ab" * 32
    assert load_profile(path=none, environ=environ | {"PROXMOX_VE_INSECURE": "false"}).token == TOKEN


def profile_with(**table: Any) -> Any:
    return parse_profile("x", {"endpoint": "a", **table})


def test_a_command_gives_the_secret() -> None:
    assert secret_of(profile_with(token_command=["echo", TOKEN])) == TOKEN
    assert secret_of(profile_with(token_command="echo secret", token_id="u@pve!t")) == "u@pve!t=secret"
    assert secret_of(profile_with(password_command="printf 'a b\\n\\n' | cat", username="root@pam")) == "a b\n"
    assert secret_of(profile_with(token=TOKEN)) == TOKEN


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (Completed(3, TOKEN), "exit status 3"),
        (Completed(0, "\n"), "printed nothing"),
        (Completed(0, "oops"), "not of the"),
    ],
)
def test_a_command_that_fails_is_named(done: Completed, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        secret_of(profile_with(token_command=["pass", "show", "x"]), lambda _argv: done)
    assert SECRET not in str(caught.value)


def test_a_command_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="/nonexistent/program"):
        run_command(["/nonexistent/program"])


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("pve1", "https://pve1:8006"),
        ("PVE1.example.org:443", "https://pve1.example.org:443"),
        ("10.0.0.1", "https://10.0.0.1:8006"),
        ("2001:DB8::1", "https://[2001:db8::1]:8006"),
        ("[2001:db8::1]", "https://[2001:db8::1]:8006"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443"),
        ("fe80::1%eth0", "https://[fe80::1%25eth0]:8006"),
        ("https://[fe80::1%25eth0]:1", "https://[fe80::1%25eth0]:1"),
        ("https://pve1:8006/api2/json", "https://pve1:8006"),
        ("https://proxy.example/pve/", "https://proxy.example:8006/pve"),
    ],
)
def test_an_address_may_be_written_in_any_usual_way(text: str, url: str) -> None:
    assert parse_server(text).url == url
    assert parse_server(url).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "http://a",
        "https://",
        "u:p@a",
        "a b",
        "a:0",
        "a:70000",
        "a:x",
        "[::1",
        "[::1]x",
        "a?b",
        "::g",
        "-a",
        "a/#",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_server(text)


def test_a_totp_secret_is_kept_for_login() -> None:
    secret = base64.b32encode(b"x" * 20).decode()
    assert profile_with(username="root@pam", password="p", totp_secret=secret).totp_secret == secret


def test_every_key_is_on_the_page() -> None:
    from nixops_proxmox.pve.wire.profiles import _KNOWN

    page = (Path(__file__).parents[3] / "docs" / "profiles.md").read_text()
    table = page.partition("| key |")[2].partition("\n\n")[0]
    assert {key for key in _KNOWN if f"`{key}`" not in table} == set()
