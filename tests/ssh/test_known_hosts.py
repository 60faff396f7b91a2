"""known_hosts as OpenSSH reads it, ours and the user's."""

import subprocess
from pathlib import Path

from nixops_proxmox.ssh.keys import new_key_pair
from nixops_proxmox.ssh.known_hosts import KnownHost, find_host_keys, known_hosts_lines, write_known_hosts

KEY, OTHER = new_key_pair().public, new_key_pair().public


def test_one_line_has_alias_and_every_address_without_the_keys_comment() -> None:
    host = KnownHost((KEY + " root@web",), "m-1", (("10.0.0.5", 22), ("FD77:0::5", 2222), ("10.0.0.5", 22)))
    assert known_hosts_lines(host) == [f"m-1,10.0.0.5,[fd77::5]:2222 {KEY}"]
    assert known_hosts_lines(KnownHost((KEY,))) == []


def test_openssh_finds_what_we_wrote(tmp_path: Path) -> None:
    file = tmp_path / "d" / "known_hosts"
    write_known_hosts(file, {"web": KnownHost((KEY,), "m-1", (("fd77::5", 2222), ("fe80::1%eth0", 22)))})
    assert file.stat().st_mode & 0o777 == 0o600
    for name in ("m-1", "[fd77::5]:2222", "fe80::1%eth0"):
        done = subprocess.run(["ssh-keygen", "-F", name, "-f", file], capture_output=True, text=True, check=True)
        assert KEY.split()[1] in done.stdout


def test_writing_again_replaces_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    write_known_hosts(file, {"web": KnownHost((KEY,), "m-1"), "app": KnownHost((OTHER,), "m-2")})
    write_known_hosts(file, {"web": KnownHost((OTHER,), "m-1")})
    assert find_host_keys("m-1", 22, [file]) == (OTHER,)
    assert find_host_keys("m-2", 22, [file]) == ()
    assert [path.name for path in tmp_path.iterdir()] == ["known_hosts"]


def test_a_users_file_with_hashed_names_ports_and_rubbish_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"# comment\n\ngate {KEY}\n[gate]:2222,10.0.0.1 {OTHER}\nbroken\ngate ssh-ed25519 !!!\n\x00\xff\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], capture_output=True, check=False)
    missing = tmp_path / "missing"
    assert find_host_keys("gate", 22, [missing, file]) == (KEY,)
    assert find_host_keys("gate", 2222, [file]) == (OTHER,)
    assert find_host_keys("10.0.0.1", 22, [file]) == (OTHER,)
    assert find_host_keys("stranger", 22, [file]) == ()


def test_a_revoked_key_is_not_known(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"gate {KEY}\n@revoked * {KEY}\n@cert-authority * {OTHER}\n")
    assert find_host_keys("gate", 22, [file]) == ()
