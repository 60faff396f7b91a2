"""Several computers share one deploy: each holds its own machines, and another finishes what one has left."""

import os
import signal
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from tests.pace import patience, wait_until
from tests.state.conftest import postgres_server, url  # noqa: F401 -- fixtures: a state that several computers share

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
builtins.listToAttrs (map (name: {
  inherit name;
  value = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
    };
    toplevel = import DEMO/system.nix {
      inherit name;
      hosts = { };
      service = { port = 80; handler = "echo ${name}"; };
    };
  };
}) [ "a" "b" "c" "d" ])
"""


def started(bed: "Bed", host: str, state: str, *words: str) -> "subprocess.Popen[str]":
    """A run on a computer of that name, as far as a run can tell: it has a name of its own."""
    if os.getuid() != 0:
        pytest.skip("to have a host name of its own, a process needs root")
    argv = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', host, *bed.inside(*words)]
    environment = bed.environment | {"NIXOPS_PROXMOX_STATE": state}
    return subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    told, _ = process.communicate(timeout=patience(120))
    return process.returncode, told


def made(bed: "Bed") -> Mapping[str, int]:
    """How many VMs there are of each name."""
    names = [str(vm["config"].get("name", "")) for vm in bed.vms().values()]
    return {name: names.count(name) for name in sorted(names)}


@pytest.fixture
def shards(bed: "Bed") -> "Bed":
    from tests.e2e.bed import DEMO

    return bed.with_network("shards", NETWORK.replace("DEMO", str(DEMO)))


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_one_computer_is_lost_and_another_finishes_its_share(shards: "Bed", url: str) -> None:  # noqa: F811
    lost = started(shards, "runner-1", url, "deploy", "--shard", "1/2")
    other = started(shards, "runner-2", url, "deploy", "--shard", "2/2")
    wait_until(lambda: bool({"a", "c"} & set(made(shards))), 60, "a VM of the first share")
    os.killpg(lost.pid, signal.SIGKILL)
    lost.communicate()
    status, told = ended(other)
    assert status == 0 and "2 machines ready" in told, told
    _, told = ended(started(shards, "runner-2", url, "status"))
    assert "a of shards is being changed by" in told and "@runner-1" in told, told
    # What the lost one had is not taken from it without a word: nobody here can tell whether it lives.
    status, told = ended(started(shards, "runner-2", url, "deploy"))
    assert status == 3 and "runner-1" in told, told
    status, told = ended(started(shards, "runner-2", url, "deploy", "--break-lock"))
    assert status == 0 and "4 machines ready" in told, told
    assert made(shards) == {"a": 1, "b": 1, "c": 1, "d": 1}
