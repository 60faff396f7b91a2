"""What verbs that only look say, and how soon."""

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.pace import patience, wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]


def answers(bed: "Bed", host: str) -> bool:
    """Does the machine's sshd take a connection, tried from the operator's side of the lab's network?"""
    argv = bed.running.enter_argv(["timeout", "1", "bash", "-c", f"exec 3<>/dev/tcp/{host}/22"])
    return subprocess.run(argv, capture_output=True, timeout=patience(30)).returncode == 0


CUT_OFF = "(sleep 1; for one in /sys/class/net/*; do ip link set ${one##*/} down; done) >/dev/null 2>&1 &"


def test_looks_at_a_machine_that_is_locked_and_at_one_that_does_not_answer(bed: "Bed") -> None:
    # From outside: a command enters the lab's network by itself.
    deployed = subprocess.run(bed.command("deploy"), env=bed.environment, timeout=patience(120), capture_output=True)
    assert deployed.returncode == 0, deployed.stderr
    ((vmid, vm),) = bed.vms().items()
    bed.forget_calls()
    assert "nothing to do" in bed.run("plan").stdout
    own = f"/nodes/{vm['node']}/qemu/{vmid}/pending"
    assert [call["path"] for call in bed.calls()] == ["/cluster/resources", own], "each thing is asked once"
    host = bed.status()[0]["endpoint"]["host"]
    assert answers(bed, host)
    bed.ssh("web", CUT_OFF)
    wait_until(lambda: not answers(bed, host), 30, "the cut")
    began = time.monotonic()
    done = bed.run("check", check=False)
    took = time.monotonic() - began
    assert done.returncode == 1 and "no address answered" in done.stdout, done.stdout + done.stderr
    assert took < patience(60), "a deploy waits for two minutes; a look does not"
    bed.fault("lock_vm", method="PUT", path=r"/config$", text="backup")
    with pytest.raises(OSError, match="500"):
        bed.api("PUT", f"/nodes/{vm['node']}/qemu/{vmid}/config", description="x")
    assert f"VM {vmid} is locked by a backup (backup), and no task works on it" in bed.run("plan").stdout
