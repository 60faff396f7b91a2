"""NixOps 2 makes a gateway before what is behind it, as it does with a machine that lets go of a volume."""

from types import SimpleNamespace
from typing import Any

from nixops_proxmox.nixops2.volumes import machines_before
from tests.spec.build import machine


class Resource:
    """A machine, as NixOps has it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_type(self) -> str:
        return "proxmox"


def deployment(**through: str | None) -> Any:
    gates = {name: {"through": gate} if gate else {} for name, gate in through.items()}
    definitions = {name: SimpleNamespace(spec=machine(endpoint=said)) for name, said in gates.items()}
    resources = {name: Resource(name) for name in through}
    return SimpleNamespace(definitions=definitions, resources=resources, active_resources=resources)


def test_a_gateway_is_made_first() -> None:
    depl = deployment(gate=None, inner="gate", web="inner")
    before = {name: {one.name for one in machines_before(depl, name)} for name in ("gate", "inner", "web")}
    assert before == {"gate": set(), "inner": {"gate"}, "web": {"inner"}}
