"""Any IPv6 address, in every form it is written in, read back by somebody else's parser."""

from ipaddress import IPv6Address, ip_address
from pathlib import Path
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Endpoint
from nixops_proxmox.ssh.argv import (
    Access,
    config_text,
    known_hosts_pattern,
    parse_jump,
    scp_argv,
    ssh_argv,
    store_url,
)

SIX = st.ip_addresses(v=6).filter(lambda ip: "." not in str(ip))
PORT = st.integers(1, 65535)


@given(SIX, PORT)
def test_urls_give_the_address_and_the_port_back(ip: IPv6Address, port: int) -> None:
    for host in (str(ip), ip.exploded, f"[{ip}]", str(ip).upper()):
        store = urlsplit(store_url(Endpoint(host, port)))
        assert ip_address(store.hostname or "") == ip
        assert (store.username, store.port) == ("root", None)


@given(SIX, PORT)
def test_however_it_is_written_known_hosts_has_it_in_one_way(ip: IPv6Address, port: int) -> None:
    forms = {known_hosts_pattern(text, port) for text in (str(ip), ip.exploded, f"[{ip}]", str(ip).upper())}
    assert forms == {str(ip) if port == 22 else f"[{ip}]:{port}"}


@given(SIX, PORT)
def test_ssh_gets_it_bare_and_scp_in_brackets(ip: IPv6Address, port: int) -> None:
    access = Access(Endpoint(ip.exploded, port), Path("/k"))
    assert ssh_argv(access)[-1] == str(ip)
    assert scp_argv(access, [":/a"], "b")[-2] == f"root@[{ip}]:/a"


@given(SIX, PORT, st.sampled_from(["", "me@"]))
def test_a_jump_host_is_read_back(ip: IPv6Address, port: int, user: str) -> None:
    (hop,) = parse_jump(f"{user}[{ip}]:{port}")
    assert (ip_address(hop.host), hop.port, hop.user) == (ip, port, user.rstrip("@"))


@given(st.text(max_size=40))
def test_any_jump_host_is_taken_or_refused_by_our_own_error(text: str) -> None:
    try:
        hops = parse_jump(text)
    except ConfigError:
        return
    for hop in hops:
        assert hop.host and not hop.host.startswith("-")
        assert not any(character.isspace() for character in hop.host + hop.user)
    config = config_text(Access(Endpoint("10.0.0.5", jump=text), Path("/k")))
    assert config.count("Host ") == len(hops) + 1
