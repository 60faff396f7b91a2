"""What a router has for the machines: what follows from a description, whose it is, and what is taken back."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from nixops_proxmox.core.kind import Presence, Thing
from nixops_proxmox.errors import ConfigError, RouterCutOff, RouterError, SpecError, StateError
from nixops_proxmox.kinds.firewall.words import Neighbourhood
from nixops_proxmox.kinds.resource import KnownNic
from nixops_proxmox.kinds.routing.wanted import foresee, idle, parts_of
from nixops_proxmox.lab.routers.client import Client
from nixops_proxmox.lab.routers.vyos import VyosStandIn
from nixops_proxmox.lab.routers.vyos_grammar import below
from nixops_proxmox.routers import RouterProfile, open_router
from nixops_proxmox.routers.vyos_routing import VyosRouting
from nixops_proxmox.spec import MachineSpec, parse_network
from nixops_proxmox.spec.routing import RoutingSpec
from tests.kinds.machine.cluster import Crash, Fuse
from tests.kinds.routing_bench import RoutingBench, machine
from tests.routers.serving import serve

KEY = "a-key-of-the-API"
MARK = "nixops-proxmox:demo/edge"
SMALL = {"vlans": [{"interface": "eth1", "vlan": 20, "addresses": ["10.20.0.1/24"]}]}
FULL: dict[str, Any] = {
    **SMALL,
    "routes": [{"to": "10.30.0.0/16", "via": "10.20.0.2"}],
    "dhcp": [{"name": "LAB", "subnet": "10.20.0.0/24", "first": "10.20.0.100", "last": "10.20.0.200"}],
    "hosts": {"web.lan": ["machine:web"]},
    "masquerade": [{"interface": "eth0", "from": ["10.20.0.0/24"]}],
    "forwards": [{"interface": "eth0", "port": 8443, "to": "machine:web", "to_port": 443}],
    "groups": {"db": ["tag:db"]},
    "rules": [{"rule_set": "GUARD", "proto": "tcp", "port": 5432, "from": ["machine:web"], "to": ["group:db"]}],
}
# What cuts us off: the API is at port 443 of eth0, and we are 192.0.2.10.
FILTERED = {"rules": [{"rule_set": "input", "action": "drop", "from": ["192.0.2.0/24"]}]}
FORWARDED = {"forwards": [{"interface": "eth0", "port": "443", "to": "10.9.0.23"}]}
ROUTED = {"routes": [{"to": "192.0.2.0/25", "via": "10.9.0.2"}]}


def spec_of(data: dict[str, Any], **more: Any) -> RoutingSpec:
    text = {key: ([_words(one) for one in value] if isinstance(value, list) else value) for key, value in data.items()}
    return RoutingSpec.model_validate({"name": "edge", **text, **more})


def _words(one: Any) -> Any:
    return {key: str(value) if key in ("port", "to_port") else value for key, value in one.items()}


def somebodys(version: str) -> dict[str, Any]:
    """Somebody's router, with rules and a network of its own."""
    interface = "eth0" if version == "1.3" else {"name": "eth0"}
    rule = {"description": "theirs", "outbound-interface": interface, "translation": {"address": "masquerade"}}
    second = {"vif": {"7": {"address": "10.7.0.1/24"}}, "mtu": "1500"}
    return {
        "interfaces": {"ethernet": {"eth0": {"address": "192.0.2.1/24"}, "eth1": second}},
        "nat": {"source": {"rule": {"10": rule}}},
        "system": {"host-name": "edge"},
    }  # fmt: skip


def spec_at(name: str, address: str, *tags: str, six: str = "") -> MachineSpec:
    ipv4 = {"method": "static", "address": address, "prefix": 24}
    ipv6 = {"ipv6": {"method": "static", "address": six, "prefix": 64}} if six else {}
    nics = ({"slot": "net0", "bridge": "vmbr0", "ipv4": ipv4, **ipv6},)
    return MachineSpec.model_validate({"name": name, "tags": tags, "network": nics})


@dataclass
class Site:
    """A stand-in, and a bench whose router it is. `now` is the bench's clock."""

    stand_in: VyosStandIn
    bench: RoutingBench

    def deploy(self, data: dict[str, Any], *, fuse: Fuse | None = None, only: str = "", **more: Any) -> Thing:
        self.bench.spec = spec_of(data, **more)
        return self.bench.run(fuse or Fuse(), wanted=True, only=only)

    @property
    def waits(self) -> bool:
        """For a confirmation."""
        return self.stand_in.timer is not None

    def restart(self) -> None:
        self.stand_in.reboot()

    @property
    def running(self) -> Any:
        return self.stand_in.running


@contextmanager
def site(version: str, folder: Path, restart: str = "", **more: Any) -> Iterator[Site]:
    bench = RoutingBench()
    stand_in = VyosStandIn(version, KEY, somebodys(version), client=Client(), now=bench.clock.now, **more)
    with serve(stand_in.app, folder) as (url, fingerprint):
        profile = RouterProfile("edge", "vyos", url, "", fingerprint, secret=KEY, settings={"restart": restart})
        with open_router(profile) as router:
            bench.router = router.routing  # type: ignore[attr-defined]
            yield Site(stand_in, bench)


@pytest.mark.parametrize("version", ["1.3", "1.4", "1.5"])
def test_a_router_is_made_changed_and_left_as_it_was(version: str, tmp_path: Path) -> None:
    with site(version, tmp_path) as here:
        bench, stand_in = here.bench, here.stand_in
        bench.machines.append(machine("db", "10.9.0.24"))
        bench.described = [spec_at("web", "10.9.0.23"), spec_at("db", "10.9.0.24", "db")]
        here.deploy(FULL)
        assert stand_in.commits == 1 and stand_in.saved == stand_in.running, "one commit, and it is saved"
        assert stand_in.timer is None and stand_in.reverts == 0
        assert below(here.running, "nat", "destination", "rule", "5000", "translation") == {
            "address": "10.9.0.23",
            "port": "443",
        }
        assert below(here.running, "firewall", "group", "address-group", "db")["address"] == "10.9.0.24"
        assert here.deploy(FULL).phase is Presence.PRESENT and stand_in.commits == 1

        here.running["nat"]["destination"]["rule"]["5000"]["translation"]["address"] = "10.9.0.66"
        here.deploy(
            {**FULL, "routes": [], "vlans": [{**FULL["vlans"][0], "addresses": ["10.20.0.1/24", "10.21.0.1/24"]}]}
        )
        assert stand_in.commits == 2
        assert below(here.running, "nat", "destination", "rule", "5000", "translation")["address"] == "10.9.0.23"
        assert not below(here.running, "protocols", "static", "route")
        assert below(here.running, "interfaces", "ethernet", "eth1", "vif", "20")["address"][1] == "10.21.0.1/24"

        bench.run(Fuse(), wanted=False)
        left = {path for path in _leaves(here.running)}
        assert left == {path for path in _leaves(somebodys(version))}, "what others have is as it was"
        assert stand_in.saved == stand_in.running


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(tree, dict):
        for name, child in tree.items():
            yield from _leaves(child, (*path, name))
    else:
        yield (*path, str(tree))


def unmarked(tree: Any) -> Any:
    """As somebody has it who made the same by hand."""
    if not isinstance(tree, dict):
        return tree
    found = {name: unmarked(child) for name, child in tree.items() if name != "alias"}
    text = str(found.get("description", ""))
    if text.endswith(MARK):
        found["description"] = "by hand"
    return found


@pytest.mark.parametrize("version", ["1.3", "1.4", "1.5"])
def test_what_somebody_made_by_hand_becomes_ours_by_its_texts_alone(version: str, tmp_path: Path) -> None:
    wanted = FULL if version != "1.3" else {key: value for key, value in FULL.items() if key != "routes"}
    with site(version, tmp_path) as here:
        bench, stand_in = here.bench, here.stand_in
        bench.machines.append(machine("db", "10.9.0.24"))
        bench.described = [spec_at("web", "10.9.0.23"), spec_at("db", "10.9.0.24", "db")]
        here.deploy(wanted)
        stand_in.running = unmarked(stand_in.running)
        rules = stand_in.running["nat"]["destination"]["rule"]
        rules["70"] = rules.pop("5000")
        stand_in.saved = copy.deepcopy(stand_in.running)
        before, bench.record.thing = stand_in.saved, Thing("routing", "demo", "edge")
        with pytest.raises(StateError, match="which is not ours"):
            here.deploy(wanted)

        assert bench.find_stranger() is not None and stand_in.running == before, "a look changes nothing"
        found = bench.claim()
        assert "nat destination rule 70 (tcp 8443 on eth0 goes to 10.9.0.23 443)" in found.parts
        assert len(found.parts) == len([*wanted["vlans"], *"dhmfgr"]) + ("routes" in wanted)
        assert any("nat destination rule 70: not described any more" in line for line in found.differences)
        assert stand_in.saved == stand_in.running
        assert {path for path in _leaves(before) if "by hand" not in path} <= set(_leaves(stand_in.running))
        assert all(
            MARK in path[-1] or "alias" in path for path in set(_leaves(stand_in.running)) - set(_leaves(before))
        )
        assert bench.find_stranger() is None

        here.deploy(wanted)
        assert list(stand_in.running["nat"]["destination"]["rule"]) == ["5000"]
        bench.run(Fuse(), wanted=False)
        assert not below(here.running, "nat", "destination", "rule") and below(
            here.running, "nat", "source", "rule", "10"
        )


def test_what_has_another_deployments_mark_is_not_taken_over(tmp_path: Path) -> None:
    with site("1.5", tmp_path) as here:
        here.deploy(SMALL)
        vlan = here.running["interfaces"]["ethernet"]["eth1"]["vif"]["20"]
        vlan["description"] = "nixops-proxmox:other/edge"
        assert here.bench.find_stranger() is None


NAT: dict[str, Any] = {
    "masquerade": [
        {"interface": "eth0", "from": ["10.20.0.0/24"], "address": "192.0.2.7"},
        {"interface": "eth0", "family": "ipv6", "from": ["fd20::/64"], "prefix": "2001:db8:20::/64"},
        {"interface": "eth0", "family": "ipv6", "from": ["machine:web"]},
    ],
    "forwards": [
        {"interface": "eth0", "to": "machine:web", "address": "192.0.2.8"},
        {"interface": "eth0", "family": "ipv6", "port": 443, "to": "machine:web"},
    ],
}


@pytest.mark.parametrize("version", ["1.4", "1.5"])
def test_addresses_are_translated_in_both_families_with_and_without_ports(version: str, tmp_path: Path) -> None:
    with site(version, tmp_path) as here:
        here.bench.described = [spec_at("web", "10.9.0.23", six="fd20::23")]
        here.deploy(NAT)
        four, six = below(here.running, "nat"), below(here.running, "nat66")
        assert below(four, "source", "rule", "5000", "translation") == {"address": "192.0.2.7"}
        whole = below(four, "destination", "rule", "5000")
        assert (whole["destination"], whole["translation"]) == ({"address": "192.0.2.8"}, {"address": "10.9.0.23"})
        assert "protocol" not in whole
        assert {key: (rule["source"]["prefix"], rule["translation"]["address"])
                for key, rule in below(six, "source", "rule").items()} == {
            "5000": ("fd20::/64", "2001:db8:20::/64"), "5001": ("fd20::23/128", "masquerade")
        }  # fmt: skip
        port = below(six, "destination", "rule", "5000")
        assert (port["protocol"], port["destination"], port["translation"]["address"]) == (
            "tcp",
            {"port": "443"},
            "fd20::23",
        )
        assert here.deploy(NAT).phase is Presence.PRESENT and here.stand_in.commits == 1
        here.deploy({**NAT, "masquerade": NAT["masquerade"][:1]})
        assert not below(here.running, "nat66", "source", "rule")
        here.bench.run(Fuse(), wanted=False)
        assert {path for path in _leaves(here.running)} == {path for path in _leaves(somebodys(version))}


def test_an_address_of_the_router_itself_is_not_given_away(tmp_path: Path) -> None:
    with site("1.5", tmp_path) as here:
        stolen = {"forwards": [{"interface": "eth0", "to": "10.9.0.23", "address": "192.0.2.1"}]}
        with pytest.raises(RouterCutOff, match="it has taken it back"):
            here.deploy(stolen)
        assert not below(here.running, "nat", "destination", "rule")


def test_what_a_1_3_cannot_translate_is_told(tmp_path: Path) -> None:
    with site("1.3", tmp_path) as here, pytest.raises(ConfigError, match=r"1\.3 has no NAT of IPv6"):
        here.deploy({"masquerade": NAT["masquerade"][1:2]})


def test_what_is_there_and_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    with site("1.4", tmp_path) as here:
        with pytest.raises(StateError, match=r"it has nat source rule 10, which is not ours"):
            here.deploy(FULL, numbers={"first": 10, "last": 20})
        with pytest.raises(StateError, match=r"interfaces ethernet eth1 vif 7, which is not ours"):
            here.deploy({"vlans": [{"interface": "eth1", "vlan": 7}]})
        assert here.stand_in.commits == 0


def test_a_route_of_1_3_is_ours_by_the_record(tmp_path: Path) -> None:
    with site("1.3", tmp_path) as here:
        here.running["protocols"] = {"static": {"route": {"10.30.0.0/16": {"next-hop": {"10.7.0.9": {}}}}}}
        with pytest.raises(StateError, match=r"route 10\.30\.0\.0/16, which is not ours"):
            here.deploy({"routes": FULL["routes"]})
        here.deploy({"routes": [{"to": "10.31.0.0/16", "via": "10.7.0.9"}]})
        here.bench.run(Fuse(), wanted=False)
        assert list(below(here.running, "protocols", "static", "route")) == ["10.30.0.0/16"]


def test_what_others_have_set_in_a_vlan_of_ours_stays_and_is_not_lost(tmp_path: Path) -> None:
    with site("1.5", tmp_path) as here:
        here.deploy(SMALL)
        vlan = here.running["interfaces"]["ethernet"]["eth1"]["vif"]["20"]
        vlan["mtu"] = "1400"
        here.deploy({"vlans": [{"interface": "eth1", "vlan": 20, "addresses": ["10.22.0.1/24"], "comment": "lab"}]})
        vlan = here.running["interfaces"]["ethernet"]["eth1"]["vif"]["20"]
        assert vlan == {"address": "10.22.0.1/24", "mtu": "1400", "description": f"lab {MARK}"}
        with pytest.raises(StateError, match="others have put in: mtu 1400"):
            here.bench.run(Fuse(), wanted=False)
        del here.running["interfaces"]["ethernet"]["eth1"]["vif"]["20"]["mtu"]
        here.bench.run(Fuse(), wanted=False)
        assert list(here.running["interfaces"]["ethernet"]["eth1"]["vif"]) == ["7"]


# Changes that cut us off.


@pytest.mark.parametrize("cut", [FILTERED, FORWARDED, ROUTED], ids=["filtered", "forwarded", "routed"])
@pytest.mark.parametrize("reboots", [False, True], ids=["reload", "reboot"])
def test_vyos_1_5_takes_back_by_itself_what_cuts_us_off(cut: dict[str, Any], reboots: bool, tmp_path: Path) -> None:
    with site("1.5", tmp_path, reboots=reboots) as here:
        here.deploy(SMALL)
        before = dict(here.running)
        began = here.bench.clock.now()
        with pytest.raises(RouterCutOff, match="the change has cut us off from it; it has taken it back"):
            here.deploy({**SMALL, **cut})
        assert here.running == here.stand_in.saved == before and here.stand_in.reverts == 1
        took = here.bench.clock.now() - began
        assert 120 <= took < 180, "it takes as long as `confirm` says"
        assert here.deploy(SMALL).phase is Presence.PRESENT
        assert here.stand_in.timer is None


def test_vyos_1_4_has_its_old_configuration_after_a_restart(tmp_path: Path) -> None:
    with site("1.4", tmp_path) as here:
        here.deploy(SMALL)
        before = dict(here.running)
        with pytest.raises(RouterCutOff, match="does not take it back by itself") as caught:
            here.deploy({**SMALL, **FILTERED})
        assert "restart the router: the change was not saved" in caught.value.hint
        assert here.stand_in.is_cut_off and here.stand_in.saved == before
        here.restart()
        assert here.deploy(SMALL).phase is Presence.PRESENT


def test_a_router_is_restarted_by_the_command_of_its_profile(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    with site("1.4", tmp_path, restart=f"touch {asked}") as here:
        here.deploy(SMALL)
        here.stand_in.power = asked
        with pytest.raises(RouterCutOff, match="it was restarted, and has taken it back"):
            here.deploy({**SMALL, **FILTERED})
        assert here.running == here.stand_in.saved


@pytest.mark.parametrize(("command", "told"), [("false", "exit status 1"), ("/no/such", "cannot be run")])
def test_a_command_that_does_not_restart_the_router_is_told(command: str, told: str, tmp_path: Path) -> None:
    with site("1.4", tmp_path, restart=command) as here:
        with pytest.raises(RouterError, match=f"cut us off from it; the router edge: restart: .*{told}"):
            here.deploy(FILTERED)
        assert here.stand_in.is_cut_off


@pytest.mark.parametrize("version", ["1.4", "1.5"])
def test_a_change_after_which_a_machine_is_silent_is_put_back(version: str, tmp_path: Path) -> None:
    with site(version, tmp_path) as here:
        here.deploy(SMALL)
        before = dict(here.running)
        here.bench.machines.append(machine("off", "10.9.0.99"))

        def silent(host: str) -> bool:
            return host == "10.9.0.99" or bool(below(here.running, "protocols", "static", "route"))

        here.bench.silent = silent
        with pytest.raises(RouterCutOff, match="after the change, web did not answer any more: it is as it was"):
            here.deploy({**SMALL, "routes": FULL["routes"]})
        assert list(_leaves(here.running)) == list(_leaves(before)) and here.stand_in.timer is None
        assert list(_leaves(here.stand_in.saved)) == list(_leaves(before))
        with pytest.raises(RouterCutOff, match="web did not answer"):
            here.deploy({**SMALL, "routes": FULL["routes"]}, verify=["web"])
        here.deploy({**SMALL, "routes": FULL["routes"]}, verify=["off"])
        assert below(here.running, "protocols", "static", "route"), "who did not answer before cannot fall silent"


class Killed(VyosRouting):
    """The router, and a process that is killed before it confirms, or before it keeps."""

    def __init__(self, inside: Any, before: str) -> None:
        super().__init__(inside._api)
        self._before = before

    @override
    def confirm(self) -> bool:
        if self._before == "confirm":
            raise Crash
        return super().confirm()

    @override
    def keep(self) -> None:
        if self._before == "keep":
            raise Crash
        super().keep()


def test_a_run_that_was_killed_before_it_confirmed_is_looked_at_and_done_again(tmp_path: Path) -> None:
    with site("1.5", tmp_path) as here:
        router = here.bench.router
        here.bench.router = Killed(router, "confirm")
        with pytest.raises(Crash):
            here.deploy(SMALL)
        here.bench.router = router
        assert (here.waits, here.stand_in.saved == here.running) == (True, False)
        here.bench.clock.sleep(121)
        assert not here.stand_in.is_cut_off and here.running == here.stand_in.saved, "it has taken it back"
        here.deploy(SMALL)
        assert below(here.running, "interfaces", "ethernet", "eth1", "vif", "20")
        assert here.running == here.stand_in.saved


@pytest.mark.parametrize("before", ["confirm", "keep"])
def test_a_change_that_still_waits_is_confirmed_and_saved_by_the_next_run(before: str, tmp_path: Path) -> None:
    with site("1.5", tmp_path) as here:
        router = here.bench.router
        here.bench.router = Killed(router, before)
        with pytest.raises(Crash):
            here.deploy(SMALL)
        here.bench.router = router
        assert here.deploy(SMALL).phase is Presence.PRESENT
        assert here.stand_in.commits == 1 and here.stand_in.timer is None
        assert here.running == here.stand_in.saved


def test_a_confirmation_that_came_too_late_is_not_taken_for_one(tmp_path: Path) -> None:
    with site("1.5", tmp_path) as here:
        router = here.bench.router

        class Late(VyosRouting):
            @override
            def confirm(self) -> bool:
                here.bench.clock.sleep(121)
                return super().confirm()

        here.bench.router = Late(router._api)  # type: ignore[attr-defined]
        with pytest.raises(RouterCutOff, match="the time to confirm was over"):
            here.deploy(SMALL)
        assert "20" not in below(here.running, "interfaces", "ethernet", "eth1", "vif")


@pytest.mark.parametrize("version", ["1.4", "1.5"])
def test_a_commit_whose_answer_was_lost_is_found_and_kept(version: str, tmp_path: Path) -> None:
    with site(version, tmp_path) as here:
        here.stand_in.late = 1
        assert here.deploy(SMALL).phase is Presence.PRESENT
        assert here.stand_in.commits == 1 and here.running == here.stand_in.saved and here.stand_in.timer is None


def test_a_commit_that_failed_without_a_word_is_told_and_not_saved(tmp_path: Path) -> None:
    with site("1.3", tmp_path) as here:
        here.stand_in.mute = 1
        with pytest.raises(RouterError, match="took the change, and does not have all of it: VLAN 20 on eth1"):
            here.deploy(SMALL)
        assert here.deploy(SMALL).phase is Presence.PRESENT


def test_a_1_5_that_knows_no_timers_is_changed_as_a_1_4(tmp_path: Path) -> None:
    with site("1.5", tmp_path, timers=False) as here:
        here.deploy(SMALL)
        assert here.running == here.stand_in.saved
        with pytest.raises(RouterCutOff, match="cut us off"):
            here.deploy({**SMALL, **FILTERED})
        assert here.stand_in.saved != here.running


def test_before_a_first_boot_only_what_the_machine_needs_is_made(tmp_path: Path) -> None:
    with site("1.5", tmp_path) as here:
        here.deploy(FULL, only="web")
        assert below(here.running, "service", "dhcp-server", "shared-network-name", "LAB")
        assert not below(here.running, "nat", "destination", "rule")
        here.deploy(FULL)
        assert below(here.running, "service", "dhcp-server", "shared-network-name", "LAB")
        here.deploy({**FULL, "forwards": []}, only="db")
        assert list(below(here.running, "nat", "source", "rule")) == ["10", "5000"], "nothing goes meanwhile"


# What follows from a description.


def around(*machines: tuple[str, str], tags: tuple[str, ...] = ()) -> Neighbourhood:
    specs = [spec_at(name, address, *tags) for name, address in machines]
    return Neighbourhood([machine(name) for name, _ in machines], specs)


def test_names_are_filled_in_and_what_has_no_address_stands_for_nothing() -> None:
    spec = spec_of(FULL)
    waiting = parts_of(spec, Neighbourhood())
    assert (waiting.forwards, waiting.hosts, waiting.rules) == ([], [], [])
    assert [one.members for one in waiting.groups] == [()], "a group stays, so that rules can name it"
    assert list(idle(spec, Neighbourhood())) == [
        "port 8443 waits: machine:web has no IPv4 address yet",
        "the name web.lan waits: nothing that it names has an address yet",
        "a rule waits: nothing that it names has an address yet (machine:web group:db)",
    ]
    there = parts_of(spec, around(("web", "10.9.0.23"), tags=("db",)))
    assert [(one.to, one.to_port) for one in there.forwards] == [("10.9.0.23", "443")]
    assert [one.members for one in there.groups] == [("10.9.0.23",)]
    assert [(one.family, one.source.address, one.to.group) for one in there.rules] == [(4, "10.9.0.23", "db")]
    assert list(idle(spec, around(("web", "10.9.0.23"), tags=("db",)))) == []


def test_a_rule_without_addresses_is_one_of_each_family_and_a_group_has_that_of_its_members() -> None:
    rules = [{"action": "accept", "states": ["established"]}, {"action": "drop", "to": ["group:six"]}]
    found = parts_of(spec_of({"rules": rules, "groups": {"six": ["fd00::/64", "fd01::1"]}}), Neighbourhood())
    assert [(one.action, one.family) for one in found.rules] == [("accept", 4), ("accept", 6), ("drop", 6)]
    assert found.groups[0].members == ("fd00::/64", "fd01::1/128") and found.groups[0].networks


def test_a_plan_says_which_port_leads_to_a_new_machine() -> None:
    nics = [KnownNic("web", "net0", "", "", ("10.9.0.23", "fd00::23"))]
    assert list(foresee(spec_of(FULL), "demo", nics)) == [
        "forward tcp 8443 on eth0 to 443 of 10.9.0.23 on the router edge"
    ]


@pytest.mark.parametrize(
    ("routing", "told"),
    [
        ({"forwards": [{"interface": "eth0", "port": 80, "to": "machine:mail"}]}, "there is no such machine here"),
        ({"forwards": [{"interface": "eth0", "port": 80, "to": "web"}]}, "forwards[0].to: expected an address"),
        ({"forwards": [{"interface": "eth0", "port": "90-80", "to": "10.0.0.1"}]}, "expected a port such as 443"),
        ({"forwards": [{"interface": "eth0", "to": "10.0.0.1"}]}, "forwards[0].port: must be set, or address"),
        (
            {"forwards": [{"interface": "eth0", "to": "10.0.0.1", "address": "10.0.0.2", "toPort": 80}]},
            "has no meaning without port",
        ),
        ({"forwards": [{"interface": "eth0", "port": 80, "to": "fd00::1", "address": "fd00::2"}]}, "is not of ipv4"),
        (
            {"masquerade": [{"interface": "eth0", "prefix": "fd00::/64"}]},
            "masquerade[0].prefix: has no meaning in IPv4",
        ),
        (
            {"masquerade": [{"interface": "eth0", "family": "ipv6", "address": "fd00::1", "prefix": "fd00::/64"}]},
            "masquerade[0].prefix: has no meaning with address",
        ),
        ({"verify": ["mail"]}, "resources.routing.edge.verify: there is no machine mail"),
        ({"numbers": {"first": 9, "last": 8}}, "numbers.last: is before numbers.first"),
        ({"vlans": [{"interface": "eth1", "vlan": 5}] * 2}, "vlans[1]: is described twice"),
        ({"vlans": [{"interface": "eth1", "vlan": 5, "addresses": ["10.0.0.1"]}]}, "such as 10.20.0.1/24"),
        ({"routes": [{"to": "10.0.0.0/8", "via": "fd00::1"}]}, "routes[0].via: is of another family"),
        ({"rules": [{"port": 80}]}, "rules[0].proto: must be tcp, udp or tcp_udp"),
        ({"rules": [{"to": ["group:db"]}]}, "rules[0]: it names group:db, and there is no such group"),
        ({"rules": [{"from": ["10.0.0.1", "group:db"]}], "groups": {"db": []}}, "rules[0].from: a group stands alone"),
        ({"dhcp": [{"name": "L", "subnet": "10.0.0.0/24", "first": "10.0.1.1", "last": "10.0.0.9"}]}, "is not in 10.0"),
        ({"dhcp": [{"name": "L", "subnet": "10.0.0.0/24", "first": "10.0.0.9", "last": "10.0.0.1"}]}, "is before 10.0"),
        ({"profile": "default"}, "resources.routing.edge.profile"),
    ],
)
def test_what_does_not_fit_together_is_told(routing: object, told: str) -> None:
    machines = {"web": {"proxmox": {"network": [{"bridge": "vmbr0"}], "disks": [{"storage": "local", "size": "1G"}]}}}
    with pytest.raises(SpecError) as caught:
        parse_network("demo", {"machines": machines, "resources": {"routing": {"edge": routing}}})
    assert told in str(caught.value.message)


def test_it_follows_the_machines_that_it_names() -> None:
    spec = spec_of({**FULL, "groups": {"db": ["tag:db", "network:inside"]}})
    machines = (MachineSpec(name="web"), MachineSpec(name="sql", tags=("db",)), MachineSpec(name="ci"))
    assert spec.comes_after(machines) == [("machine", "sql"), ("machine", "web"), ("network", "inside")]
    assert spec.covers("ci") and not spec_of({"forwards": []}).covers("ci")
