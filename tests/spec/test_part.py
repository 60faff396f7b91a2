"""A network that is told one thing at a time: what is wrong with that thing is refused, and the rest is only told."""

from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import parse_machine, parse_part
from tests.spec.build import options

SSH = {"macro": "SSH", "from": ["10.0.0.0/8"]}


def network(**resources: Any) -> dict[str, Any]:
    return {"machines": {"web": {"proxmox": options()}}, "resources": resources}


def test_only_what_is_wrong_with_the_part_is_refused() -> None:
    data = network(pools={"front": {"colour": 1}, "back": {}})
    with pytest.raises(SpecError, match=r"resources\.pools\.front\.colour"):
        parse_part("shop", data, ["resources.pools.front"])
    read = parse_part("shop", data, ["resources.pools.back"])
    assert [spec.name for spec in read.resources] == ["back"]
    (warning,) = read.warnings
    assert warning.startswith("resources.pools.front.colour: there is no such option")


@pytest.mark.parametrize(("about", "refused"), [("resources.pools.fro", False), ("resources.pools.front", True)])
def test_a_path_is_meant_as_a_whole(about: str, refused: bool) -> None:
    data = network(pools={"front": {"colour": 1}})
    if refused:
        with pytest.raises(SpecError):
            parse_part("shop", data, [about])
    else:
        assert parse_part("shop", data, [about]).resources == ()


def test_machines_whose_words_are_not_known_can_be_named_too() -> None:
    data = network(firewalls={"web": {"rules": [SSH, {"from": ["machine:db"]}]}})
    with pytest.raises(SpecError, match="there is no such machine here"):
        parse_part("shop", data, ["resources.firewalls.web"])
    db = parse_machine("db", {"proxmox": options()})
    read = parse_part("shop", data, ["resources.firewalls.web"], beside=[db])
    assert {machine.name for machine in read.machines} == {"web", "db"} and len(read.resources) == 1


def test_volumes_are_not_looked_for() -> None:
    data = {"machines": {"web": {"proxmox": options(volumes=["data"])}}}
    assert parse_part("shop", data, ["web.deployment.proxmox"]).machines[0].volumes == ("data",)
