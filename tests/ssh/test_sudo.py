"""Scripts of a user who is not root: they start by sudo, and a sudo that refuses is told as what it is."""

import os
import subprocess
from pathlib import Path

import pytest

from nixops_proxmox.errors import SshRefused
from nixops_proxmox.model import Completed
from nixops_proxmox.ssh.session import LONG_SCRIPT, refuse_sudo, script_command

FAKE = '#!/bin/sh\n[ "$1 $2" = "-n --" ] || exit 9\nshift 2\nBY=sudo exec "$@"\n'


@pytest.mark.parametrize("padding", [0, LONG_SCRIPT])
def test_a_script_of_any_length_runs_by_sudo_with_its_own_input(tmp_path: Path, padding: int) -> None:
    program = tmp_path / "sudo"
    program.write_text(FAKE)
    program.chmod(0o755)
    script = f'#{"x" * padding}\necho "$BY it\'s $(cat)"; exit 3'
    command, prefix = script_command(script, sudo=True)
    done = subprocess.run(
        ["sh", "-c", command],
        input=prefix + b"given",
        capture_output=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, b"sudo it's given\n"), done.stderr


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "sudo: a password is required"),
        (1, "deploy is not in the sudoers file.  This incident will be reported."),
        (1, "sudo: a terminal is required to read the password; …\nsudo: a password is required"),
        (1, "Sorry, user deploy is not allowed to execute '/bin/sh' as root on web."),
        (127, "sh: 1: exec: sudo: not found"),
    ],
)
def test_a_sudo_that_refuses_names_the_way_out(status: int, words: str) -> None:
    with pytest.raises(SshRefused, match="deploy may not run commands as root") as caught:
        refuse_sudo(Completed(status, "", words), "deploy", "web")
    assert "deployment.proxmox.guest.sudo" in caught.value.hint


@pytest.mark.parametrize("done", [Completed(0, "", "sudo: a password is required"), Completed(1, "", "no such file")])
def test_a_script_that_fails_by_itself_is_not_sudos_fault(done: Completed) -> None:
    refuse_sudo(done, "deploy", "web")
