"""Sessions against a real OpenSSH server: what runs, who is let in, and how each failure is called."""

import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import pytest

from nixops_proxmox.errors import ConnectionLost, HostKeyChanged, Locked, SshRefused, SshUnreachable
from nixops_proxmox.model import Endpoint
from nixops_proxmox.ssh.connect import authenticate, open_link
from nixops_proxmox.ssh.identity import LoginKeys
from nixops_proxmox.ssh.keys import new_key_pair
from nixops_proxmox.ssh.login import SshLogin
from nixops_proxmox.ssh.session import LONG_SCRIPT, Session, open_session
from nixops_proxmox.ssh.shell import SshShell
from tests.pace import patience, wait_until
from tests.ports import free_port

from .server import Sshd, start_sshd


def test_a_script_gives_status_and_both_outputs(sshd: Sshd) -> None:
    with open_session(sshd.login()) as session:
        done = session.run("echo out; echo err >&2; exit 3")
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_whoever_may_not_act_runs_nothing(sshd: Sshd, tmp_path: Path) -> None:
    def may_act() -> None:
        raise Locked("taken over")

    with SshShell(sshd.login(), may_act=may_act) as shell, pytest.raises(Locked):
        shell.run(f"touch {tmp_path}/trace")
    with SshShell(sshd.login()) as shell:
        assert shell.run(f"ls {tmp_path}").stdout == ""


def test_stdin_of_any_size_arrives_whole_and_ends(sshd: Sshd) -> None:
    data = bytes(range(256)) * 20_000  # 5 MB
    with open_session(sshd.login()) as session:
        assert session.run("wc -c", stdin=data).stdout.strip() == str(len(data))
        assert session.run("cat").stdout == ""


def test_much_output_on_both_sides_does_not_block(sshd: Sshd) -> None:
    with open_session(sshd.login()) as session:
        done = session.run("head -c 3000000 /dev/zero | tr '\\0' e >&2; head -c 3000000 /dev/zero | tr '\\0' o")
    assert (len(done.stdout), len(done.stderr)) == (3_000_000, 3_000_000)


def test_undecodable_bytes_are_replaced(sshd: Sshd) -> None:
    with open_session(sshd.login()) as session:
        assert session.run(r"printf 'a\377b'").stdout == "a�b"


def test_quotes_backslashes_and_newlines_reach_the_shell_as_they_are(sshd: Sshd) -> None:
    script = """cat <<'END'\n'a' "b" \\c $d `e` ü\nEND\n"""
    with open_session(sshd.login()) as session:
        assert session.run(script).stdout == "'a' \"b\" \\c $d `e` ü\n"


def test_a_script_too_long_for_an_argument_runs_and_keeps_its_stdin(sshd: Sshd) -> None:
    script = "# " + "x" * 200_000 + "\necho long; cat"
    assert len(script) > LONG_SCRIPT
    with open_session(sshd.login()) as session:
        assert session.run(script, stdin=b"rest\n").stdout == "long\nrest\n"


def test_what_a_command_leaves_in_the_background_does_not_hold_it(sshd: Sshd) -> None:
    with open_session(sshd.login()) as session:
        left = int(session.run("sleep 3600 & echo $!", timeout=patience(30)).stdout)
    os.kill(left, signal.SIGTERM)  # an error if it were gone


def test_a_command_over_its_time_may_still_run_and_says_so(sshd: Sshd) -> None:
    with open_session(sshd.login()) as session, pytest.raises(ConnectionLost, match=r"within 0\.3 s; it may still run"):
        session.run("sleep 30", timeout=0.3)


def test_one_session_runs_many_scripts_and_many_threads_have_their_own(sshd: Sshd) -> None:
    results: list[str] = []

    def work(number: int) -> None:
        with open_session(sshd.login()) as session:
            results.extend(session.run(f"echo {number}.{index}").stdout for index in range(3))

    threads = [Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(f"{number}.{index}\n" for number in range(6) for index in range(3))


def test_another_host_key_is_refused_loudly_before_anything_is_sent(sshd: Sshd) -> None:
    expected = new_key_pair().public
    with pytest.raises(HostKeyChanged, match="ANOTHER MACHINE ANSWERS") as caught:
        open_session(sshd.login(host_keys=(expected,)))
    assert sshd.host.public in str(caught.value)


def test_without_any_known_key_nobody_is_accepted(sshd: Sshd) -> None:
    with pytest.raises(HostKeyChanged, match="we know no host key"):
        open_session(sshd.login(host_keys=()))


def test_a_server_without_a_key_of_the_expected_type_is_another_machine(sshd: Sshd) -> None:
    nist = (
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrY"
        "MjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="
    )
    with pytest.raises(HostKeyChanged, match="no host key of the expected type"):
        open_session(sshd.login(host_keys=(nist,)))


def test_a_key_that_is_not_authorized_is_refused_after_the_proof(sshd: Sshd) -> None:
    with pytest.raises(SshRefused, match="right machine, but it does not let"):
        open_session(sshd.login(identity=LoginKeys(keys=(new_key_pair().private,))))


def test_the_second_of_two_keys_is_tried(sshd: Sshd) -> None:
    keys = (new_key_pair().private, sshd.client.private)
    with open_session(sshd.login(identity=LoginKeys(keys=keys))) as session:
        assert session.is_alive


def test_a_key_from_a_file_is_used_and_a_missing_one_is_named(sshd: Sshd, tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "id"
    file.write_text(sshd.client.private)
    open_session(sshd.login(identity=LoginKeys(files=(file,)))).close()
    with pytest.raises(SshRefused, match="cannot be read"):
        open_session(sshd.login(identity=LoginKeys(files=(tmp_path / "none",))))
    with pytest.raises(SshRefused, match="no key"):
        open_session(sshd.login(identity=LoginKeys()))


def test_errors_and_reprs_never_show_a_private_key(sshd: Sshd) -> None:
    login = sshd.login()
    assert "PRIVATE" not in repr(login)
    assert "PRIVATE" not in repr(sshd.client)


def test_a_closed_port_is_unreachable() -> None:
    port = free_port()

    with pytest.raises(SshUnreachable, match="connection refused"):
        open_session(SshLogin(Endpoint("127.0.0.1", port), ("ssh-ed25519 AAAA",)))


def test_a_port_that_is_silent_or_no_ssh_is_unreachable_in_time(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = Endpoint("127.0.0.1", silent.getsockname()[1])
        began = monotonic()
        with pytest.raises(SshUnreachable):
            open_session(sshd.login(endpoint=endpoint, timeout=0.5, answer=0.5))
        assert monotonic() - began < patience(5)


def test_ipv6_literals_connect(sshd: Sshd) -> None:
    login = sshd.login()
    for host in ("::1", "0:0:0:0:0:0:0:1"):
        with open_session(replace(login, endpoint=replace(login.endpoint, host=host))) as session:
            assert session.run("echo 6").stdout == "6\n"


def test_a_connection_that_breaks_on_the_way_is_lost_and_the_shell_opens_another(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with start_sshd(tmp_path) as server, SshShell(server.login()) as shell:
        assert shell.run("echo one").stdout == "one\n"
        runs = tmp_path / "runs"

        def cut_off() -> None:
            wait_until(runs.exists)
            server.kill_connections()

        cut = Thread(target=cut_off)
        cut.start()
        with pytest.raises(ConnectionLost, match=r"broke while a command ran|was killed"):
            shell.run(f"touch {runs}; sleep 60")
        cut.join()
        assert shell.run("echo two").stdout == "two\n"


def test_a_dead_connection_is_replaced_before_the_next_command(tmp_path) -> None:  # type: ignore[no-untyped-def]
    opened: list[Session] = []

    def connect(login: SshLogin) -> Session:
        opened.append(open_session(login))
        return opened[-1]

    with start_sshd(tmp_path) as server, SshShell(server.login(), connect=connect) as shell:
        shell.ensure_open()
        server.kill_connections()
        wait_until(lambda: not opened[0].is_alive)
        assert shell.run("echo again").stdout == "again\n"


def test_a_connection_that_only_looks_alive_is_replaced_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with start_sshd(tmp_path) as server, SshShell(server.login(timeout=patience(1), answer=patience(1))) as shell:
        shell.ensure_open()
        server.signal_connections(signal.SIGSTOP)
        assert shell.run("echo again").stdout == "again\n"
        server.kill_connections()


def test_more_keys_than_sshd_has_patience_for_is_a_refusal(sshd: Sshd) -> None:
    keys = tuple(new_key_pair().private for _ in range(8))
    with pytest.raises(SshRefused, match="does not let"):
        open_session(sshd.login(identity=LoginKeys(keys=keys)))


def test_a_connection_that_ends_during_the_login_is_no_refusal(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with start_sshd(tmp_path, extra="LoginGraceTime 1") as server:
        link = open_link(server.login())
        wait_until(lambda: not link.transport.is_active())
        with pytest.raises(SshUnreachable):
            authenticate(link.transport, "root", server.login().identity, "web", patience(2))
        link.close()


def test_a_cipher_is_chosen_that_needs_no_mac(sshd: Sshd) -> None:
    """paramiko compares MACs a byte at a time, in Python: a third of what a connection cost."""
    link = open_link(sshd.login())
    chosen = vars(link.transport)
    assert "-gcm@" in chosen["remote_cipher"] and "-gcm@" in chosen["local_cipher"]
    link.close()


def test_closing_releases_the_threads(sshd: Sshd) -> None:
    from threading import enumerate as threads

    before = len(threads())
    for _ in range(5):
        open_session(sshd.login()).close()
    until = monotonic() + patience(2)
    while len(threads()) > before and monotonic() < until:
        Event().wait(0.02)
    assert len(threads()) <= before
