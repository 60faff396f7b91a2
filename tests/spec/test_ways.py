"""`endpoint.through`: it leads through a machine that is there, and never in a circle."""

import pytest

from nixops_proxmox.errors import SpecError
from tests.spec.build import network


@pytest.mark.parametrize(
    ("endpoints", "mistake"),
    [
        ({"web": {"through": "gate"}}, ""),
        ({"web": {"through": "inner"}, "inner": {"through": "gate"}, "gate": {"jump": "bastion"}}, ""),
        ({"web": {"through": "gat"}}, "endpoint.through: there is no machine gat (did you mean gate?)"),
        ({"web": {"through": "gate", "jump": "bastion"}}, "endpoint.through: has no meaning with jump"),
        ({"web": {"through": "web"}}, "the way leads in a circle: web through web"),
        (
            {"web": {"through": "inner"}, "inner": {"through": "gate"}, "gate": {"through": "inner"}},
            "inner.deployment.proxmox.endpoint.through: the way leads in a circle: inner through gate through inner",
        ),
    ],
)  # fmt: skip
def test_a_way_leads_somewhere(endpoints: dict[str, dict[str, str]], mistake: str) -> None:
    machines = {name: {"endpoint": endpoints.get(name, {})} for name in ("gate", "inner", "web")}
    if not mistake:
        assert network(machines).warnings == ()
        return
    with pytest.raises(SpecError) as raised:
        network(machines)
    assert mistake in str(raised.value)
