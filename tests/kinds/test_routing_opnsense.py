"""OPNsense's aliases, forwards, rules and names: what is made, and what comes back when a change cuts us off."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.core.kind import Presence, Thing
from nixops_proxmox.errors import ConfigError, RouterCutOff, RouterError, StateError
from nixops_proxmox.kinds import routing
from nixops_proxmox.lab.routers.client import Client
from nixops_proxmox.lab.routers.opnsense import OpnsenseStandIn
from nixops_proxmox.routers import RouterProfile, open_router
from tests.kinds.machine.cluster import Crash, Fuse
from tests.kinds.routing_bench import RoutingBench, machine
from tests.kinds.test_routing import FULL, MARK, spec_at, spec_of
from tests.routers.serving import serve

KEY = "a-key-of-the-API"
FULL_HERE: dict[str, Any] = {
    "hosts": {"web.lan": ["machine:web"]},
    "forwards": [{"interface": "wan", "port": 8443, "to": "machine:web", "to_port": 443}],
    "groups": {"db": ["tag:db"], "lab": ["10.20.0.0/24"]},
    "rules": [
        {"states": ["established", "related"]},
        {"proto": "tcp", "port": 5432, "from_interface": "lan", "from": ["machine:web"], "to": ["group:db"]},
        {"action": "drop", "from_interface": "lan", "to": ["group:db"]},
    ],
}
BLOCKED = {"rules": [{"rule_set": "input", "action": "drop", "from_interface": "wan", "from": ["192.0.2.0/24"]}]}
STOLEN = {"forwards": [{"interface": "wan", "port": 443, "to": "10.9.0.23"}]}
THEIRS = {"name": "theirs", "type": "host", "content": "10.7.0.1", "enabled": "1", "description": "not ours"}


@dataclass
class Site:
    stand_in: OpnsenseStandIn
    bench: RoutingBench

    def deploy(self, data: dict[str, Any], *, fuse: Fuse | None = None) -> Thing:
        self.bench.spec = spec_of(data)
        return self.bench.run(fuse or Fuse(), wanted=True)

    @property
    def acting(self) -> dict[str, list[dict[str, str]]]:
        """Ours alone. Whatever is written, acts."""
        there = self.stand_in.filter
        assert there.acting == there.configured
        found = {what: list(rows.values()) for what, rows in there.acting.items()}
        return {what: [row for row in rows if MARK in row.get("descr", row.get("description", ""))]
                for what, rows in found.items()}  # fmt: skip


@contextmanager
def site(release: str, folder: Path) -> Iterator[Site]:
    bench = RoutingBench()
    stand_in = OpnsenseStandIn(release, "nixops", KEY, client=Client(interface="wan"), now=bench.clock.now)
    stand_in.filter.configured["alias"]["theirs"] = dict(THEIRS)
    stand_in.filter.acting["alias"]["theirs"] = dict(THEIRS)
    bench.machines.append(machine("db", "10.9.0.24"))
    bench.described = [spec_at("web", "10.9.0.23"), spec_at("db", "10.9.0.24", "db")]
    with serve(stand_in.app, folder) as (url, fingerprint):
        profile = RouterProfile("edge", "opnsense", url, "", fingerprint, "nixops", KEY)
        with open_router(profile) as router:
            bench.router = router.routing  # type: ignore[attr-defined]
            yield Site(stand_in, bench)


@pytest.mark.parametrize("release", ["26.1", "26.7"])
def test_it_is_made_changed_and_left_as_it_was(release: str, tmp_path: Path) -> None:
    with site(release, tmp_path) as here:
        here.deploy(FULL_HERE)
        found = here.acting
        assert [(one["name"], one["content"]) for one in found["alias"]] == [
            ("db", "10.9.0.24"),
            ("lab", "10.20.0.0/24"),
        ]
        (forward,) = found["forward"]
        assert (forward["destination.port"], forward["target"], forward["local-port"]) == ("8443", "10.9.0.23", "443")
        assert [(one["action"], one["source_net"], one["destination_net"]) for one in found["rule"]] == [
            ("pass", "10.9.0.23", "db"),
            ("block", "any", "db"),
        ], "answers pass by themselves"
        assert [(one["hostname"], one["domain"], one["server"]) for one in found["override"]] == [
            ("web", "lan", "10.9.0.23")
        ]
        assert here.stand_in.filter.timer is None
        calls = here.stand_in.calls
        assert here.deploy(FULL_HERE).phase is Presence.PRESENT and here.stand_in.calls - calls <= 5, "it only looks"

        rule = next(iter(here.stand_in.filter.configured["rule"].values()))
        rule["destination_port"] = "1"
        here.deploy({**FULL_HERE, "hosts": {}})
        assert here.acting["rule"][0]["destination_port"] == "5432" and here.acting["override"] == []

        here.bench.run(Fuse(), wanted=False)
        assert not any(here.acting.values())
        assert list(here.stand_in.filter.acting["alias"].values()) == [THEIRS]


def test_a_doctor_asks_it_and_changes_nothing(tmp_path: Path) -> None:
    with site("26.1", tmp_path) as here:
        here.deploy(FULL_HERE)
        before = list(here.stand_in.filter.savepoints)
        (found,) = routing.DESCRIBED.examine(here.bench.spec, here.bench.setting())
        assert found.text == "it answers: OPNsense 26.1.2, 6 parts of its configuration are ours"
        assert list(here.stand_in.filter.savepoints) == before


def test_what_somebody_made_by_hand_becomes_ours_by_its_texts_alone(tmp_path: Path) -> None:
    with site("26.1", tmp_path) as here:
        here.deploy(FULL_HERE)
        there = here.stand_in.filter
        for what, text in (
            ("alias", "description"),
            ("forward", "descr"),
            ("rule", "description"),
            ("override", "description"),
        ):
            for row in there.configured[what].values():
                row[text] = "" if MARK in row[text] else row[text]
        for row in there.configured["rule"].values():
            row["sequence"] = str(int(row["sequence"]) - 4000)
        there.acting = copy.deepcopy(there.configured)
        here.bench.record.thing = Thing("routing", "demo", "edge")
        before = there.configured["rule"]
        found = here.bench.claim()
        assert len(found.parts) == 6 and "tcp 8443 on wan goes to 10.9.0.23 443" in found.parts
        assert here.bench.find_stranger() is None and len(here.acting["rule"]) == 2
        assert {row["sequence"] for row in there.configured["rule"].values()} == {
            row["sequence"] for row in before.values()
        }
        assert here.deploy(FULL_HERE).phase is Presence.PRESENT and len(here.acting["rule"]) == 2
        here.bench.run(Fuse(), wanted=False)
        assert not any(here.acting.values())


def test_what_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    with site("26.1", tmp_path) as here:
        with pytest.raises(StateError, match="which is not ours: group theirs"):
            here.deploy({"groups": {"theirs": ["10.0.0.1"]}})
        assert here.stand_in.filter.configured["alias"] == {"theirs": THEIRS}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"vlans": FULL["vlans"]}, "`vlans` cannot be made by its API"),
        ({"rules": [{"rule_set": "GUARD"}]}, "no rule sets with names"),
        ({"rules": [{"from": ["10.0.0.1-10.0.0.9"]}]}, "cannot have the range"),
        ({"hosts": {"web": ["10.0.0.1"]}}, "the name web needs a domain"),
        (
            {"forwards": [{"interface": "wan", "to": "10.9.0.23", "address": "192.0.2.8"}]},
            "all for 192.0.2.8 cannot be",
        ),
    ],
)
def test_what_it_cannot_have_is_told(data: dict[str, Any], told: str, tmp_path: Path) -> None:
    with site("26.1", tmp_path) as here, pytest.raises(ConfigError, match=told):
        here.deploy(data)


def test_an_older_release_is_told_in_a_clear_word(tmp_path: Path) -> None:
    with site("25.7", tmp_path) as here, pytest.raises(ConfigError, match="does not know this call") as caught:
        here.deploy(FULL_HERE)
    assert caught.value.hint == "routing needs OPNsense 26.1 or later"


def test_a_refused_row_leaves_nothing_half_done(tmp_path: Path) -> None:
    with site("26.1", tmp_path) as here:
        wrong = {**FULL_HERE, "forwards": [{"interface": "wan", "port": "1-2-3", "to": "10.9.0.23"}]}
        here.bench.spec = spec_of(FULL_HERE)
        forward = here.bench.spec.forwards[0].model_copy(update={"port": wrong["forwards"][0]["port"]})
        here.bench.spec = here.bench.spec.model_copy(update={"forwards": (forward,)})
        with pytest.raises(RouterError, match="valid portnumber"):
            here.bench.run(Fuse(), wanted=True)
        assert not any(here.acting.values())


# Changes that cut us off.


def test_26_1_takes_back_by_itself_a_rule_that_cuts_us_off(tmp_path: Path) -> None:
    with site("26.1", tmp_path) as here:
        here.deploy(FULL_HERE)
        before, began = here.acting, here.bench.clock.now()
        with pytest.raises(RouterCutOff, match="the change has cut us off from it; it has taken it back"):
            here.deploy({**FULL_HERE, "rules": [*BLOCKED["rules"], *FULL_HERE["rules"]], "hosts": {}})
        assert here.acting == before, "its names, which no timer takes back, are put back by us"
        took = here.bench.clock.now() - began
        assert here.stand_in.filter.reverts == 1 and took < 120
        assert here.deploy(FULL_HERE).phase is Presence.PRESENT


@pytest.mark.parametrize(("release", "cut"), [("26.7", BLOCKED), ("26.7", STOLEN), ("26.1", STOLEN)])
def test_what_no_timer_takes_back_is_told(release: str, cut: dict[str, Any], tmp_path: Path) -> None:
    with site(release, tmp_path) as here:
        with pytest.raises(RouterCutOff, match="does not take it back by itself") as caught:
            here.deploy(cut)
        assert "take the change back on the router itself" in caught.value.hint
        assert here.stand_in.filter.is_cut_off


@pytest.mark.parametrize("release", ["26.1", "26.7"])
def test_a_change_after_which_a_machine_is_silent_is_put_back(release: str, tmp_path: Path) -> None:
    with site(release, tmp_path) as here:
        here.deploy({"groups": FULL_HERE["groups"]})
        before = here.acting
        here.bench.silent = lambda _host: bool(here.stand_in.filter.acting["rule"])
        with pytest.raises(RouterCutOff, match="db, web did not answer any more: it is as it was before"):
            here.deploy(FULL_HERE)
        assert here.acting == before and here.stand_in.filter.timer is None


def test_a_run_that_was_killed_before_it_confirmed_is_done_again(tmp_path: Path) -> None:
    with site("26.1", tmp_path) as here:
        router: Any = here.bench.router
        confirm = router.confirm

        def killed() -> bool:
            raise Crash

        router.confirm = killed
        with pytest.raises(Crash):
            here.deploy(FULL_HERE)
        router.confirm, router._revision = confirm, ""
        assert here.stand_in.filter.timer is not None
        assert here.deploy(FULL_HERE).phase is Presence.PRESENT
        assert here.stand_in.filter.reverts == 1 and len(here.acting["rule"]) == 2


def test_a_confirmation_that_came_too_late_is_not_taken_for_one(tmp_path: Path) -> None:
    with site("26.1", tmp_path) as here:
        router: Any = here.bench.router
        confirm = router.confirm

        def late() -> bool:
            here.bench.clock.sleep(61)
            done: bool = confirm()
            return done

        router.confirm = late
        with pytest.raises(RouterCutOff, match="the time to confirm was over"):
            here.deploy(FULL_HERE)
