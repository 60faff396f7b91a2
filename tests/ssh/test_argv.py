"""How one address is written for each program that takes it: all of them, for every form of address."""

import subprocess
from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Endpoint
from nixops_proxmox.ssh.argv import (
    Access,
    Hop,
    config_text,
    known_hosts_pattern,
    nix_sshopts,
    option_args,
    parse_jump,
    scp_argv,
    ssh_argv,
    store_url,
)

# As the endpoint has it, port; then as it is written for ssh, scp, a Nix store, known_hosts, and PVE.
TABLE = [
    ("10.0.0.5", 22, "10.0.0.5", "10.0.0.5", "10.0.0.5", "10.0.0.5", "10.0.0.5"),
    ("10.0.0.5", 2222, "10.0.0.5", "10.0.0.5", "10.0.0.5", "[10.0.0.5]:2222", "10.0.0.5"),
    ("fd77::5", 22, "fd77::5", "[fd77::5]", "[fd77::5]", "fd77::5", "[fd77::5]"),
    ("fd77::5", 2222, "fd77::5", "[fd77::5]", "[fd77::5]", "[fd77::5]:2222", "[fd77::5]"),
    ("[fd77::5]", 22, "fd77::5", "[fd77::5]", "[fd77::5]", "fd77::5", "[fd77::5]"),
    ("FD77:0:0::5", 22, "fd77::5", "[fd77::5]", "[fd77::5]", "fd77::5", "[fd77::5]"),
    ("fe80::1%eth0", 22, "fe80::1%eth0", "[fe80::1%eth0]", "[fe80::1%eth0]", "fe80::1%eth0", "[fe80::1%25eth0]"),
    ("fe80::1%en1", 2222, "fe80::1%en1", "[fe80::1%en1]", "[fe80::1%en1]", "[fe80::1%en1]:2222", "[fe80::1%25en1]"),
    ("web.test", 22, "web.test", "web.test", "web.test", "web.test", "web.test"),
    ("Web.test", 2222, "Web.test", "Web.test", "Web.test", "[web.test]:2222", "Web.test"),
]  # fmt: skip


def access(host: str = "10.0.0.5", port: int = 22, **changes: object) -> Access:
    values: dict[str, object] = {"known_hosts": Path("/s/known_hosts"), "identity": Path("/s/id")}
    return Access(Endpoint(host, port), **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("host", "port", "ssh", "scp", "store", "known", "pve"), TABLE)
def test_every_program_gets_the_address_in_its_own_form(
    host: str, port: int, ssh: str, scp: str, store: str, known: str, pve: str
) -> None:
    way = access(host, port)
    assert ssh_argv(way, "true")[-3:] == ["--", ssh, "true"]
    assert f"Port={port}" in ssh_argv(way)
    assert scp_argv(way, ["f"], ":/x")[-2:] == ["f", f"root@{scp}:/x"]
    assert store_url(way.endpoint) == f"ssh://root@{store}"
    assert f"Port={port}" in nix_sshopts(way).split()
    assert known_hosts_pattern(host, port) == known


def test_ssh_is_cut_off_from_every_configuration_but_ours_and_never_asks() -> None:
    assert ssh_argv(access(alias="m-1"), "uptime") == [
        "ssh", "-F", "none", "-o", "Port=22", "-o", "UserKnownHostsFile=/s/known_hosts",
        "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", "-o", "UpdateHostKeys=no",
        "-o", "CheckHostIP=no", "-o", "BatchMode=yes", "-o", "HostKeyAlias=m-1", "-o", "IdentityFile=/s/id",
        "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "ConnectTimeout=120",
        "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", "-l", "root", "--", "10.0.0.5", "uptime",
    ]  # fmt: skip


def test_a_users_option_counts_unless_it_would_undo_the_pinning() -> None:
    args = option_args(access(options={"stricthostkeychecking": "no", "ConnectTimeout": "3", "Compression": "yes"}))
    assert "stricthostkeychecking=no" not in args
    assert args.index("ConnectTimeout=3") < args.index("ConnectTimeout=120")
    assert "Compression=yes" in args


@pytest.mark.parametrize("name", ["StrictHostKeyChecking", "IdentityFile", "userknownhostsfile", "HOSTKEYALIAS"])
def test_what_we_set_is_not_set_again_however_it_is_spelled(name: str) -> None:
    """ssh adds an IdentityFile to those that it has; of most others it takes the first."""
    assert option_args(access(alias="m-1", options={name: "no"})) == option_args(access(alias="m-1"))


def test_local_paths_with_a_colon_stay_local_for_scp() -> None:
    assert scp_argv(access(), ["a:b", "/a:b", "dir/a:b"], ":x")[-4:] == ["./a:b", "/a:b", "dir/a:b", "root@10.0.0.5:x"]


def test_the_store_of_a_mounted_system_is_a_query_of_the_url() -> None:
    assert store_url(Endpoint("fd77::5"), root="/mnt") == "ssh://root@[fd77::5]?remote-store=local%3Froot%3D/mnt"
    assert store_url(Endpoint("10.0.0.5"), scheme="ssh-ng") == "ssh-ng://root@10.0.0.5"
    assert store_url(Endpoint("fd77::5"), scheme="ssh-ng", compress=True) == "ssh-ng://root@[fd77::5]?compress=true"


def test_the_store_of_another_user_than_root_is_opened_by_sudo() -> None:
    deploy = Endpoint("fd77::5", user="deploy")
    assert store_url(deploy) == "ssh://deploy@[fd77::5]?remote-program=sudo%20-n%20nix-store"
    assert store_url(deploy, scheme="ssh-ng").endswith("?remote-program=sudo%20-n%20nix-daemon")
    assert store_url(deploy, root="/mnt").endswith("local%3Froot%3D/mnt&remote-program=sudo%20-n%20nix-store")


def test_what_nix_would_split_is_refused_and_a_configuration_file_helps() -> None:
    blank = access(known_hosts=Path("/my state/known_hosts"))
    with pytest.raises(ConfigError, match="splits NIX_SSHOPTS"):
        nix_sshopts(blank)
    assert nix_sshopts(access(config=Path("/run/x/config"))) == "-F /run/x/config"
    assert 'UserKnownHostsFile "/my state/known_hosts"' in config_text(blank)


def test_a_jump_host_wants_a_configuration_file() -> None:
    way = Access(Endpoint("10.0.0.5", jump="gate"), Path("/s/known_hosts"))
    with pytest.raises(ConfigError, match="configuration file"):
        ssh_argv(way)


@pytest.mark.parametrize(
    ("text", "hops"),
    [
        ("", ()),
        ("none", ()),
        ("gate", (Hop("gate"),)),
        ("me@gate:2222", (Hop("gate", 2222, "me"),)),
        ("ssh://me@gate:2222", (Hop("gate", 2222, "me"),)),
        ("[fd00::1]:2222", (Hop("fd00::1", 2222),)),
        ("me@fd00::1", (Hop("fd00::1", 22, "me"),)),
        ("[fe80::1%eth0]", (Hop("fe80::1%eth0"),)),
        ("a,me@b:23", (Hop("a"), Hop("b", 23, "me"))),
    ],
)
def test_jump_hosts_are_read_as_ssh_reads_them(text: str, hops: tuple[Hop, ...]) -> None:
    assert parse_jump(text) == hops


@pytest.mark.parametrize(
    "text", ["-oProxyCommand=x", "a b", "gate:0", "gate:70000", "a,,b", "@gate", "gate:x", "[gate]"]
)
def test_what_is_no_jump_host_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a jump host"):
        parse_jump(text)


def effective(config: Path, host: str) -> dict[str, str]:
    """What the installed ssh makes of a configuration."""
    done = subprocess.run(["ssh", "-F", config, "-G", host], capture_output=True, text=True, check=True)
    pairs = (line.split(" ", 1) for line in done.stdout.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def test_ssh_itself_keeps_our_keys_from_the_jump_hosts_and_theirs_from_us(tmp_path: Path) -> None:
    way = Access(
        Endpoint("fd77::5", 2022, jump="me@gate:2222,[fd00::1]"), tmp_path / "our known", tmp_path / "our id", "m-1"
    )
    config = tmp_path / "config"
    config.write_text(config_text(way, [tmp_path / "their known"]))
    target = effective(config, "fd77::5")
    assert target["proxyjump"] == "nixops-proxmox-jump-1"
    assert target["userknownhostsfile"] == str(tmp_path / "our known")
    assert (target["port"], target["hostkeyalias"], target["stricthostkeychecking"]) == ("2022", "m-1", "true")
    last, first = effective(config, "nixops-proxmox-jump-1"), effective(config, "nixops-proxmox-jump-0")
    assert (last["hostname"], last["proxyjump"]) == ("fd00::1", "nixops-proxmox-jump-0")
    assert (first["hostname"], first["port"], first["user"]) == ("gate", "2222", "me")
    assert "proxyjump" not in first
    for hop in (first, last):
        assert hop["userknownhostsfile"] == str(tmp_path / "their known")
        assert hop["stricthostkeychecking"] == "true"
        assert "our id" not in hop["identityfile"]
