"""Machines of the network that serve tang: what they advertise, and where they are reached."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from typing_extensions import override

from nixops_proxmox.cli.spelling import spelled as spell
from nixops_proxmox.core.engine import OpenAttempt
from nixops_proxmox.errors import CommandFailed, SshUnreachable, StateError
from nixops_proxmox.kinds.machine.keepers import find_unsafe, find_url, parse_advertisement, resolved
from nixops_proxmox.kinds.machine.sealing import pin_of
from nixops_proxmox.kinds.machine.shape import Permissions, World
from nixops_proxmox.kinds.machine.steps.keeping import learn_keepers, refuse_other_keepers
from nixops_proxmox.model import Address, Completed, Facts, Machine, Phase, Reach
from nixops_proxmox.spec import MachineSpec, Nic, Tang
from tests.kinds.machine.cluster import SPEC, Bench, Guest
from tests.kinds.machine.test_encryption import OTHER, THUMBPRINT, encrypted

RFC = {  # the key of RFC 7638, section 3.1, and its thumbprint
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3o"
    "knjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5"
    "hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
}
RFC_THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
KEEPER = encrypted({"tang": ({"machine": "keeper"},)}, {"folder": "/vault"})


def advertised(*keys: Mapping[str, object]) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"keys": keys}).encode()).decode().rstrip("=")
    return json.dumps({"payload": payload, "protected": "", "signature": ""})


SIGNS = RFC | {"key_ops": ["verify"], "alg": "RS256", "kid": "x"}


def test_the_thumbprint_is_that_of_the_rfc_and_only_of_keys_that_sign() -> None:
    assert parse_advertisement(advertised(RFC | {"key_ops": ["deriveKey"]}, SIGNS)) == (RFC_THUMBPRINT,)


@pytest.mark.parametrize(
    "printed",
    [
        *("", "[]", "{}", '{"payload": 1}', '{"payload": "e"}', '{"payload": "e30"}'),
        advertised(),
        advertised(RFC | {"key_ops": ["deriveKey"]}),
        advertised({"kty": "oct", "key_ops": ["verify"]}),
        advertised({"kty": "EC", "crv": "P-521", "x": 1, "y": "y", "key_ops": ["verify"]}),
    ],
)
def test_what_is_no_advertisement_is_refused(printed: str) -> None:
    with pytest.raises(ValueError, match="tang"):
        parse_advertisement(printed)


def at(*addresses: tuple[str, str]) -> Facts:
    found = tuple(Address(ip_address(ip), Reach.PRIVATE, "eth0", mac) for ip, mac in addresses)
    return Facts(macs=("m0", "m1"), addresses=found)


TWO_NICS = SPEC.model_copy(update={"network": (Nic(slot="net0", bridge="vmbr9"), Nic(slot="net1", bridge="vmbr0"))})


@pytest.mark.parametrize(
    ("addresses", "url"),
    [
        ([("10.0.0.5", "m0"), ("10.1.0.5", "m1")], "http://10.1.0.5:7654"),
        ([("10.0.0.5", "m0"), ("fd00::5", "m1")], "http://[fd00::5]:7654"),
        ([("fe80::1", "m1"), ("127.0.0.1", ""), ("fd00::5", "m0"), ("10.0.0.5", "m0")], "http://10.0.0.5:7654"),
        ([("fe80::1", "m1")], None),
    ],
)
def test_a_keeper_is_reached_on_the_network_that_both_are_on(addresses: list[tuple[str, str]], url: str | None) -> None:
    keeper = Machine("demo", "keeper", Phase.READY, at(*addresses))
    assert find_url(Tang(machine="keeper"), keeper, TWO_NICS, SPEC) == url
    assert find_url(Tang(machine="keeper", url="http://192.0.2.1"), keeper, TWO_NICS, SPEC) == "http://192.0.2.1"


def test_the_pin_has_what_was_learned() -> None:
    assert KEEPER.encryption is not None
    found = resolved(KEEPER.encryption, {"tang keeper": f"http://10.0.0.5:7654 {THUMBPRINT}"})
    assert pin_of(found) == ("tang", json.dumps({"url": "http://10.0.0.5:7654", "thp": THUMBPRINT}))


@pytest.mark.parametrize(
    ("node", "luks", "said"),
    [
        ("pve1", {}, ["known when it is ready", "same node, pve1"]),
        ("pve2", {}, ["known when it is ready"]),
        ("", {"tang keeper": "x y"}, []),
        ("pve1", {"tang keeper": "x y"}, ["`node` of keeper"]),
    ],
)
def test_a_plan_says_what_is_known_later_and_what_is_too_near(node: str, luks: dict[str, str], said: list[str]) -> None:
    lines = find_unsafe(KEEPER.encryption, node, lambda _: "pve1", luks)
    assert len(lines) == len(said) and all(one in line for one, line in zip(said, lines, strict=True))


class Telling(Guest):
    """Its guests advertise this."""

    told: str = advertised(SIGNS)

    @override
    def system_shell(self, machine: Machine, spec: MachineSpec) -> "Telling":  # type: ignore[override]
        if not self.told:
            raise SshUnreachable("keeper: no connection")
        return self

    def run(self, script: str) -> Completed:
        assert "http://10.0.0.5:7654/adv" in script
        return Completed(0, self.told)


def seen(bench: Bench, known: str, guest: type[Telling] = Telling, *, adjust: bool = True) -> Sequence[str]:
    keeper = Machine("demo", "keeper", Phase.READY, at(("10.0.0.5", "m0")))
    world: World = bench.world(spec=KEEPER, guest=guest, permissions=Permissions(adjust=adjust))
    machine = Machine("demo", "web", Phase.RUNNING, Facts(luks={"tang keeper": known, "slots": "2 tang x"}))
    refuse_other_keepers(replace(world, others=lambda _: (keeper, SPEC)), machine)
    return bench.reporter.warnings


def test_a_keeper_with_other_keys_stops_a_deploy_and_warns_who_only_starts_it() -> None:
    assert seen(Bench(), f"http://10.0.0.5:7654 {RFC_THUMBPRINT}") == []
    with pytest.raises(StateError, match=f"{OTHER} of keeper, which advertises {RFC_THUMBPRINT}") as refused:
        seen(Bench(), f"http://10.0.0.5:7654 {OTHER}")
    assert "recovery rotate web" in spell(refused.value.hint)
    (warning,) = seen(Bench(), f"http://10.0.0.5:7654 {OTHER}", adjust=False)
    assert OTHER in warning


def test_a_keeper_that_moved_or_does_not_answer_is_told_of() -> None:
    (warning,) = seen(Bench(), f"http://10.0.0.9:7654 {RFC_THUMBPRINT}")
    assert "http://10.0.0.9:7654, and it is at http://10.0.0.5:7654 now" in warning

    class Silent(Telling):
        told = ""

    class Other(Telling):
        told = "<html>"

    for guest in (Silent, Other):
        (warning,) = seen(Bench(), f"http://10.0.0.5:7654 {OTHER}", guest)
        assert "is not known" in warning


def test_a_machine_that_serves_no_tang_is_named_with_what_to_set() -> None:
    class Other(Telling):
        told = "<html>"

    bench = Bench()
    keeper = Machine("demo", "keeper", Phase.READY, at(("10.0.0.5", "m0")))
    world = replace(bench.world(spec=KEEPER, guest=Other), others=lambda _: (keeper, SPEC))

    machine = bench.record.machine
    attempt: OpenAttempt[Machine] = OpenAttempt(bench.record, machine, bench.record.begin(machine, "Try", "ready"))
    with pytest.raises(CommandFailed, match=r"unlock\.tang: keeper does not answer as a tang server") as refused:
        learn_keepers(world, machine, attempt)
    assert "services.tang.enable" in refused.value.hint
