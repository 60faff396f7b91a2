"""A network of many machines by a real Nix: described at once, and its systems evaluated in batches when they are asked
for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from nixops_proxmox.errors import EvaluationFailed, SpecError
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.batches import Bounds
from nixops_proxmox.nixeval.evaluate import Evaluated, NetworkSource, Toplevels, evaluate_network
from nixops_proxmox.nixeval.evaluations import Evaluations, evaluate_fleet
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.nixeval.workers import is_starved
from nixops_proxmox.paths import nix_dir
from nixops_proxmox.spec import parse_network
from tests.nixes import SMALL_LIB, SMALL_NIXOS
from tests.nixeval.scripted import ScriptedRunner

EXPRESSION = nix_dir() / "eval.nix"
MIB = 1 << 20
ENOUGH = Bounds(2, 2048 * MIB)
PLAIN = """\
  {name} = {{
    deployment.proxmox = {{
      disks = [ {{ storage = "local-lvm"; size = "1G"; }} ];
      memory = {memory};
      network = [ {{ bridge = "vmbr0"; }} ];
    }};
    toplevel = {toplevel};
  }};
"""
SYSTEM = 'derivation { name = "NAME"; system = builtins.currentSystem; builder = "/bin/sh"; }'
LAZY = {"a": 'builtins.trace "warning: a is old" (SYSTEM)', "b": 'throw "b is wrong"', "c": "null"}
HUNGRY = 'builtins.deepSeq (builtins.genList (n: { inherit n; }) 9000000) (throw "it had enough")'

Ask = Callable[..., tuple[Evaluated, Evaluations]]


def _plain(systems: dict[str, str], memory: str = "512") -> str:
    machines = (
        PLAIN.format(name=name, memory=memory, toplevel=text.replace("SYSTEM", SYSTEM).replace("NAME", name))
        for name, text in systems.items()
    )
    return "{\n" + "".join(machines) + "}\n"


@pytest.fixture
def ask(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> Ask:
    def run(text: str, *, bounds: Bounds = ENOUGH, warned: list[str] | None = None) -> tuple[Evaluated, Evaluations]:
        return evaluate_fleet(
            nix,
            EXPRESSION,
            _source(tmp_path, text),
            run=nix_run,
            bounds=lambda: bounds,
            check=partial(parse_network, "shop"),
            tell=lambda _: None,
            warn=(warned if warned is not None else []).append,
        )

    return run


def path(toplevels: Toplevels, name: str) -> str:
    found = toplevels.get(name)
    return found.drv_path if found else ""


def _source(folder: Path, text: str) -> NetworkSource:
    file = folder / "network.nix"
    file.write_text(text)
    return NetworkSource(file=file, search_path=(f"nixpkgs={SMALL_NIXOS}", f"nixpkgs-lib={SMALL_LIB}"))


@pytest.mark.nix
def test_systems_are_evaluated_when_they_are_asked_for_and_each_failure_is_its_machines_own(ask: Ask) -> None:
    unasked = {f"u{number}": 'throw "it is not asked for"' for number in range(3)}
    warned: list[str] = []
    described, found = ask(_plain(LAZY | unasked), warned=warned)
    assert set(described.data["machines"]) == LAZY.keys() | unasked.keys() and warned == []
    found.ensure(["a", "b", "c"])
    toplevels = found.toplevels()
    assert path(toplevels, "a").endswith("-a.drv") and toplevels.get("c") is None and warned == ["a is old"]
    with pytest.raises(EvaluationFailed, match=r"network.nix, machine b: the evaluation failed\nerror: b is wrong"):
        toplevels.get("b")


@pytest.mark.nix
def test_a_system_that_is_wrong_in_a_small_network_is_its_machines_own_failure_too(ask: Ask) -> None:
    described, found = ask(_plain(LAZY))
    assert described.later == {"a", "c"} and "b is wrong" in described.failures["b"].message
    assert path(found.toplevels(), "a").endswith("-a.drv")
    with pytest.raises(EvaluationFailed, match="machine b: "):
        found.find("b")


@pytest.mark.nix
def test_parts_tell_what_the_whole_tells(ask: Ask, nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> None:
    """Of plain machines, and of NixOS machines so many that not even their descriptions are evaluated at once."""
    module = """m{number} = {{ deployment.proxmox = {{
      disks.scsi0 = {{ storage = "local-lvm"; size = "16G"; }}; memory = {number} + 512; network.net0.bridge = "vmbr0";
    }}; system.stateVersion = "24.05"; }};
    """
    nixos = "".join(module.format(number=number) for number in range(17))
    text = f'{{ network.description = "many"; {nixos} {_plain(dict.fromkeys("abc", "SYSTEM"))[2:-2]} }}'
    whole = evaluate_network(nix, EXPRESSION, _source(tmp_path, text), run=nix_run)
    described, found = ask(text)
    assert len(described.undescribed) == 20 and len(whole.toplevels) == 20
    for name, machine in whole.data["machines"].items():
        assert described.data["machines"][name]["deployment"] == machine["deployment"]
    found.ensure(list(whole.toplevels))
    assert {name: found.toplevels().get(name) for name in whole.toplevels} == whole.toplevels
    assert {**described.data, "machines": {}} == {**whole.data, "machines": {}}


@pytest.mark.nix
def test_what_no_type_can_say_is_refused_before_any_system_is_evaluated(ask: Ask) -> None:
    with pytest.raises(SpecError, match=r"^a\.deployment\.proxmox\.memory: "):
        ask(_plain(LAZY, memory='"much"'))


@pytest.mark.nix
def test_a_system_that_needs_more_memory_than_there_is_is_named(ask: Ask) -> None:
    systems = dict.fromkeys("abcd", "SYSTEM") | {"hungry": HUNGRY}
    _, found = ask(_plain(systems), bounds=Bounds(1, 300 * MIB))
    found.ensure(list(systems))
    with pytest.raises(
        EvaluationFailed, match="hungry: Nix ran out of memory while it evaluated this machine's system"
    ):
        found.find("hungry")
    assert path(found.toplevels(), "d").endswith("-d.drv")


@pytest.mark.parametrize(
    ("done", "starved"),
    [
        (Completed(-9), True),
        (Completed(137), True),
        (
            Completed(1, "", "GC Warning: Out of Memory! Heap size: 95 MiB. Returning NULL!\nerror: out of memory\n"),
            True,
        ),
        (Completed(1, "", "error: out of memory\n"), False),
        (Completed(1, "", "error: undefined variable 'x'\n"), False),
    ],
)
def test_a_kill_and_the_collectors_words_mean_want_of_memory(done: Completed, starved: bool) -> None:
    assert is_starved(done) is starved


def test_an_answer_about_other_machines_is_no_answer(fake_nix: Nix) -> None:
    said = '{"machines": {"a": {"deployment": {}}, "b": {"deployment": {}}}}'
    run = ScriptedRunner([Completed(0, said), Completed(0, '{"z": {"toplevel": null}}')])
    _, found = evaluate_fleet(
        fake_nix,
        EXPRESSION,
        NetworkSource(file=Path("/w/n.nix")),
        run=run,
        bounds=lambda: Bounds(1, MIB),
        check=lambda _: None,
        tell=lambda _: None,
        warn=lambda _: None,
    )
    with pytest.raises(EvaluationFailed, match="Nix told of other machines than a"):
        found.find("a")
    assert run.environments[-1].keys() == {"GC_MAXIMUM_HEAP_SIZE"}
