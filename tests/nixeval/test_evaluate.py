import json
from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError, EvaluationFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.evaluate import (
    ANNOUNCED,
    NetworkSource,
    Toplevel,
    evaluate_argv,
    evaluate_network,
    parse_evaluation,
    parse_source,
)
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import NO_STORE, Nix
from nixops_proxmox.paths import nix_dir
from tests.nixeval.scripted import ScriptedRunner

EVAL = Path("/n/eval.nix")
SOURCE = NetworkSource(file=Path("/w/n.nix"))


def test_a_file_is_evaluated_as_the_contract_says(fake_nix: Nix) -> None:
    assert evaluate_argv(fake_nix, EVAL, NetworkSource(file=Path("/w/network.nix"), search_path=("nixpkgs=/p",))) == [
        *("/n/bin/nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "--show-trace"),
        *("--arg", "announce", "true", "-I", "nixpkgs=/p", "/n/eval.nix"),
        *("--argstr", "networkExpr", "/w/network.nix", "-A", "info"),
    ]


def test_a_folder_means_its_default_nix(tmp_path: Path) -> None:
    (tmp_path / "default.nix").touch()
    assert parse_source(str(tmp_path)) == NetworkSource(file=tmp_path)


def test_a_folder_with_only_a_flake_is_a_flake(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").touch()
    assert parse_source(".", base=tmp_path) == NetworkSource(flake=str(tmp_path))


@pytest.mark.parametrize("reference", [".#net", "github:me/net", "git+ssh://host/net", "flake:net#x"])
def test_flake_references_are_known_by_their_look(reference: str, tmp_path: Path) -> None:
    assert parse_source(reference, base=tmp_path).flake == reference


def test_a_file_that_is_not_there_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no network file .*/nowhere.nix"):
        parse_source("nowhere.nix", base=tmp_path)


def test_systems_are_taken_out_of_what_nix_printed() -> None:
    text = json.dumps({"machines": {"a": {"toplevel": {"drvPath": "/d", "outputPath": "/o"}}, "b": {"toplevel": None}}})
    assert parse_evaluation(text).toplevels == {"a": Toplevel("/d", "/o")}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"machines": []}', '{"machines": {"a": {"toplevel": 1}}}', "[" * 100_000],
)
def test_anything_else_is_an_evaluation_error(text: str) -> None:
    with pytest.raises(EvaluationFailed):
        parse_evaluation(text)


def test_a_failure_is_told_after_one_evaluation(fake_nix: Nix) -> None:
    said = "error: boo\n\n       … while evaluating the machine 'web':\n"
    run = ScriptedRunner([Completed(1, "", said)])
    with pytest.raises(EvaluationFailed, match=r"^/w/n.nix, machine web: the evaluation failed\nerror: boo$"):
        evaluate_network(fake_nix, EVAL, SOURCE, run=run)
    assert len(run.calls) == 1


@pytest.mark.parametrize("source", [SOURCE, NetworkSource(flake=".")])
def test_a_user_without_a_store_is_told_how_to_get_one(fake_nix: Nix, source: NetworkSource) -> None:
    run = ScriptedRunner([Completed(1, "", "error: creating directory '/nix': Permission denied\n")])
    with pytest.raises(EvaluationFailed) as failed:
        evaluate_network(fake_nix, EVAL, source, run=run)
    assert failed.value.hint == NO_STORE


def test_what_nix_warns_of_is_kept_and_what_it_does_is_told(fake_nix: Nix) -> None:
    said = "copying path '/nix/store/x'\ntrace: warning: old option\nsee the manual\nbuilding '/nix/store/y.drv'...\n"
    run, told = ScriptedRunner([Completed(0, '{"machines": {}}', said)]), list[str]()
    evaluated = evaluate_network(fake_nix, EVAL, SOURCE, run=run, tell=told.append)
    assert evaluated.warnings == ("old option\nsee the manual",)


def test_the_data_is_seen_before_the_systems_and_by_nobody_else(fake_nix: Nix) -> None:
    data = {"network": {}, "machines": {"web": {"deployment": {"proxmox": {"memory": "a\u2028b"}}}}}
    run = ScriptedRunner([Completed(0, '{"machines": {}}', f"{ANNOUNCED}{json.dumps(data, ensure_ascii=False)}\n")])
    seen, told = list[object](), list[str]()
    evaluated = evaluate_network(fake_nix, EVAL, SOURCE, run=run, check=seen.append, tell=told.append)
    assert (seen, told, evaluated.warnings) == ([data], [], ())


@pytest.mark.nix
def test_our_expression_reads_a_plain_network(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> None:
    expression = _our_expression()
    file = tmp_path / "network.nix"
    file.write_text(
        """{ size, label ? "x" }: { network.description = label; web = {
          deployment.proxmox.memory = size;
          toplevel = derivation { name = "web"; system = builtins.currentSystem; builder = "/bin/sh"; };
        }; }"""
    )
    source = NetworkSource(file=file, arguments={"size": "512"}, string_arguments={"label": 'a "${b}"'})
    evaluated = evaluate_network(nix, expression, source, run=nix_run)
    assert evaluated.data["network"]["description"] == 'a "${b}"'
    assert evaluated.data["machines"]["web"]["deployment"]["proxmox"]["memory"] == 512
    assert Path(evaluated.toplevels["web"].drv_path).exists(), "it can be built"


@pytest.mark.nix
def test_a_broken_machine_is_named(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> None:
    expression = _our_expression()
    file = tmp_path / "network.nix"
    file.write_text('{ good.deployment.proxmox = {}; bad.deployment.proxmox.memory = throw "out of memory"; }')
    with pytest.raises(EvaluationFailed, match=r"machine bad: the evaluation failed\n(?s:.*)out of memory"):
        evaluate_network(nix, expression, NetworkSource(file=file), run=nix_run)


@pytest.mark.nix
def test_a_syntax_error_is_shown_with_its_place(nix: Nix, nix_run: ProcessRunner, tmp_path: Path) -> None:
    expression = _our_expression()
    file = tmp_path / "network.nix"
    file.write_text("{ web = ; }")
    with pytest.raises(EvaluationFailed, match=r"error: syntax error.*(?s:.*)network.nix:1:9"):
        evaluate_network(nix, expression, NetworkSource(file=file), run=nix_run)


def _our_expression() -> Path:
    expression = nix_dir() / "eval.nix"
    if not expression.exists():
        pytest.skip("nix/eval.nix is not there yet")
    return expression
