"""Real DHCP servers are told of machines by the verbs, and a real client with a machine's MAC gets its address."""

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_reservations import NETWORK
from tests.routers.real import started
from tests.routers.test_servers import THEIRS, find_obstacle

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow, pytest.mark.weekly]


def ask(process: "subprocess.Popen[str]", mac: str) -> str:
    """The address and the name that a client with this MAC is given."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{mac}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


@pytest.mark.parametrize("kind", ["dnsmasq", "kea"])
def test_a_machine_gets_its_reserved_address(bed: "Bed", kind: str, tmp_path: Path) -> None:
    from tests.e2e.bed import DEMO

    if obstacle := find_obstacle(kind):
        pytest.skip(f"a real {kind} is not asked: {obstacle}")
    shop = bed.with_network("lan", NETWORK.replace("DEMO", str(DEMO)))
    with started(shop, kind, tmp_path, "serve") as server:
        assert "it answers: 1 reservations, 0 of them ours" in shop.run("doctor").stdout
        shop.run("deploy", DB="no")
        table = json.loads(shop.run("macs", "list", "--json", DB="no").stdout)["macs"]
        (mac,) = [one["mac"] for one in table]
        given, _, name = ask(server, mac).partition(" ")
        assert given == "10.9.0.23" and name.partition(".")[0] == "web"
        shop.run("deploy", DB="no", WEB="10.9.0.33")
        assert ask(server, mac).startswith("10.9.0.33")
        assert "reservation lan: as described" in shop.run("plan", "--check", DB="no", WEB="10.9.0.33").stdout
        shop.run("destroy", "--yes", "web")
        assert not ask(server, mac).startswith("10.9.0.33"), "it is anybody's again"
        shop.run("destroy", "--yes")
        assert THEIRS.partition(" ")[0] in (ask(server, THEIRS.split()[1]))
