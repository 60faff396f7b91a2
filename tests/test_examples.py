"""The examples that people copy: they parse, they evaluate, and what they say is a valid description."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.lab import guestfs
from nixops_proxmox.nixeval.build import build_systems
from nixops_proxmox.nixeval.evaluate import Evaluated, NetworkSource, evaluate_network
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix, get_nix
from nixops_proxmox.paths import nix_dir
from nixops_proxmox.spec import MachineSpec, parse_network
from tests.builds import nix_config
from tests.nixes import NIXES, nix_path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SERVICES = Path(guestfs.__file__).parent / "bin" / "lab-services"  # as a lab's guest has it
STUBS = "{ lib.mkDefault = value: value; pkgs = { }; config = { }; }"

pytestmark = pytest.mark.nix


@pytest.fixture(scope="module", params=NIXES)
def nix(request: pytest.FixtureRequest) -> Nix:
    return get_nix({**os.environ, "PATH": nix_path(request.param)})


@pytest.fixture
def run(tmp_path: Path) -> ProcessRunner:
    """Runs Nix on a store below the test's own directory."""
    folders = {f"NIX_{name}_DIR": str(tmp_path / "nix" / name.lower()) for name in ("STORE", "STATE", "LOG", "CONF")}
    settings = nix_config()
    return ProcessRunner(environment={**folders, "NIX_REMOTE": "", "NIX_PATH": "", "NIX_CONFIG": settings})


def _evaluate(nix: Nix, run: ProcessRunner, version: str = "") -> Evaluated:
    with_version = ProcessRunner(environment={**run.environment, "DEMO_VERSION": version})
    source = NetworkSource(file=EXAMPLES / "demo" / "network.nix")
    return evaluate_network(nix, nix_dir() / "eval.nix", source, run=with_version)


def _real(nix: Nix, run: ProcessRunner, network: str) -> Mapping[str, Any]:
    """The machines' own options of a network of NixOS modules, read without nixpkgs: modules are called with stubs."""
    merge = (
        "let merge = a: b: a // builtins.mapAttrs (n: v: if a ? ${n} && builtins.isAttrs v && builtins.isAttrs a.${n} "
        "then merge a.${n} v else v) b; "
        f"read = m: (if builtins.isFunction m then m {STUBS} else m).deployment.proxmox; "
        f"nixosSystem = {{ modules, ... }}: builtins.foldl' merge {{ }} modules; network = {network}; in "
        "builtins.mapAttrs (n: m: merge (read (network.defaults or { deployment.proxmox = { }; })) (read m)) "
        '(removeAttrs network [ "network" "defaults" "nixpkgs" ])'
    )
    done = run(nix.argv("nix-instantiate", "--eval", "--strict", "--json", "-E", merge))
    assert done.status == 0, done.stderr
    machines: dict[str, Any] = json.loads(done.stdout)
    return {"network": {}, "machines": {n: {"deployment": {"proxmox": options}} for n, options in machines.items()}}


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.nix")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_example_parses(nix: Nix, run: ProcessRunner, path: Path) -> None:
    done = run(nix.argv("nix-instantiate", "--parse", str(path)))
    assert done.status == 0, done.stderr


def test_the_tenants_are_a_valid_description(nix: Nix, run: ProcessRunner) -> None:
    source = NetworkSource(file=EXAMPLES / "two-tenants" / "network.nix")
    network = parse_network("tenants", evaluate_network(nix, nix_dir() / "eval.nix", source, run=run).data)
    assert sorted(f"{one.kind} {one.name}" for one in network.resources) == [
        "firewall blue-web", "firewall red-db", "firewall red-web", "network blue", "network red"
    ]  # fmt: skip
    assert network.warnings == ()


def test_the_demo_is_a_valid_description_of_three_machines(nix: Nix, run: ProcessRunner) -> None:
    network = parse_network("demo", _evaluate(nix, run).data)
    assert {machine.name for machine in network.machines} == {"web", "app", "db"}
    assert network.warnings == ()


def test_the_demos_systems_are_built_with_nothing_but_a_shell(nix: Nix, run: ProcessRunner, tmp_path: Path) -> None:
    built = build_systems(nix, _evaluate(nix, run).toplevels, roots=tmp_path / "roots", run=run)
    assert built.failures == {}
    (tmp_path / "lab-services").write_text(f'#!/bin/sh\nexec sh {SERVICES} "$@"\n')
    (tmp_path / "lab-services").chmod(0o755)
    for name, system in built.systems.items():
        top = Path(system)
        assert os.access(top / "bin" / "switch-to-configuration", os.X_OK) and os.access(top / "activate", os.X_OK)
        assert os.access(top / "services" / name, os.X_OK)
        hosts = (top / "etc" / "hosts").read_text()
        assert "fd77:77::12 app\n" in hosts and "10.77.0.13 db\n" in hosts
        argv = [str(top / "bin" / "switch-to-configuration"), "dry-activate"]
        said = subprocess.run(argv, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True)
        assert said.stderr.decode().splitlines() == [
            "would activate the configuration...",
            f"would start the following units: {name}.service",
        ]


def test_another_version_changes_web_and_nothing_else(nix: Nix, run: ProcessRunner) -> None:
    one, two = _evaluate(nix, run, "1").toplevels, _evaluate(nix, run, "2").toplevels
    assert {name for name in one if one[name] != two[name]} == {"web"}
    assert _evaluate(nix, run).toplevels == one, "version 1 is what it is without being told"


def _parts(folder: Path, *names: str) -> str:
    """Stands in for the folder of Debian's programs that scripts/demo makes."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / name).write_text(name)
    return str(folder)


def _check_scripts(systems: Mapping[str, str]) -> None:
    for system in systems.values():
        for script in (*Path(system).glob("services/*"), *Path(system).glob("sw/bin/*"), Path(system) / "activate"):
            assert os.access(script, os.X_OK)
            read = re.findall(r"(?m)^(?:\. |export LIBRARY=)(/\S+)$", script.read_text())
            for file in (script, *read):
                checked = subprocess.run(["sh", "-n", file], capture_output=True, text=True)
                assert checked.returncode == 0, checked.stderr


def test_the_labs_forge_is_a_valid_description_of_six_machines_and_a_volume(
    nix: Nix, run: ProcessRunner, tmp_path: Path
) -> None:
    packages = _parts(tmp_path / "packages", "http", "git", "psql", "postgresql", "redis")
    (tmp_path / "secrets").mkdir()
    for name in ("db", "cache", "pushers"):
        (tmp_path / "secrets" / name).write_text("hunter2")
    folders = {"DEMO_PACKAGES": packages, "FORGE_SECRETS": str(tmp_path / "secrets")}
    run = ProcessRunner(environment={**run.environment, **folders})
    source = NetworkSource(file=EXAMPLES / "forge" / "lab" / "network.nix")
    found = evaluate_network(nix, nix_dir() / "eval.nix", source, run=run)
    network = parse_network("forge", found.data)
    assert {machine.name for machine in network.machines} == {"web", "git", "ci", "notify", "db", "cache"}
    assert [volume.name for volume in network.volumes] == ["db-data"] and network.warnings == ()
    assert {name: len(keys) for name, keys in network.sent_keys.items() if keys} == {
        "git": 3, "ci": 2, "notify": 1, "db": 1, "cache": 1
    }  # fmt: skip

    built = build_systems(nix, found.toplevels, roots=tmp_path / "roots", run=run)
    assert built.failures == {}
    store = Path(run.environment["NIX_STORE_DIR"])
    texts = {path: path.read_text(errors="replace") for path in store.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if "hunter2" in text], "a secret is in the store"
    _check_scripts(built.systems)


def test_the_labs_laboratory_is_a_valid_description_of_eight_machines_under_ha(
    nix: Nix, run: ProcessRunner, tmp_path: Path
) -> None:
    packages = _parts(tmp_path / "packages", "keepalived", "haproxy", "dnsmasq", "prometheus")
    run = ProcessRunner(environment={**run.environment, "DEMO_PACKAGES": packages})
    source = NetworkSource(file=EXAMPLES / "laboratory" / "lab" / "network.nix")
    found = evaluate_network(nix, nix_dir() / "eval.nix", source, run=run)
    network = parse_network("laboratory", found.data)
    names = {"router1", "router2", "dns", "proxy", "metrics", "web1", "web2", "desk"}
    assert {machine.name for machine in network.machines} == names and network.warnings == ()
    assert {one.name for one in network.resources if one.kind == "ha"} == names
    assert {one.name for one in network.resources if one.kind == "ha-rule"} == {"spread-routers", "spread-web"}

    built = build_systems(nix, found.toplevels, roots=tmp_path / "roots", run=run)
    assert built.failures == {}
    _check_scripts(built.systems)


def test_the_example_for_a_real_proxmox_is_a_valid_description(nix: Nix, run: ProcessRunner) -> None:
    data = _real(nix, run, f"import {EXAMPLES / 'proxmox' / 'network.nix'}")
    for machine in data["machines"].values():
        assert machine["deployment"]["proxmox"]["ssh"]["authorizedKeys"] == [
            "ssh-ed25519 AAAA…replace-me me@example"
        ], "the placeholder is meant to be refused until it is replaced"
        del machine["deployment"]["proxmox"]["ssh"]
    network = parse_network("proxmox", data)
    machines: dict[str, MachineSpec] = {machine.name: machine for machine in network.machines}
    assert set(machines) == {"web", "bastion", "db"} and network.warnings == ()
    assert [disk.keep for disk in machines["db"].disks] == [False, True]
    assert machines["web"].tpm is not None and machines["db"].endpoint.jump == "root@bastion.example.org"


INPUTS = "{ nixpkgs.lib = { inherit nixosSystem; }; nixops-proxmox.nixosModules.default = { }; }"


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("README.md", "import FILE"),
        ("docs/with-nixops2.md", "import FILE"),
        ("docs/with-flakes.md", f"((import FILE).outputs {INPUTS}).nixosConfigurations"),
        ("nix/template/flake.nix", f"((import FILE).outputs {INPUTS}).nixopsConfigurations.default"),
    ],
)
def test_what_people_copy_is_a_valid_description_with_a_state_version(
    nix: Nix, run: ProcessRunner, tmp_path: Path, written: str, network: str
) -> None:
    """Read as data; tests/nix/test_written.py evaluates the same as NixOS."""
    text = (EXAMPLES.parent / written).read_text()
    found = re.search(r"(?s)```nix\n(.*?)```", text)
    file = tmp_path / "written.nix"
    file.write_text(found[1] if found else text)
    data = _real(nix, run, network.replace("FILE", str(file)))
    for machine in data["machines"].values():
        machine["deployment"]["proxmox"].pop("ssh", None)  # a placeholder for the reader's own key
    (machine,) = parse_network("written", data).machines
    assert machine.name == "web" and machine.disks and machine.network
    assert "system.stateVersion" in file.read_text()
