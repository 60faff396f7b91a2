"""The page of messages is made of what the code says."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


def load(name: str) -> ModuleType:
    """A script as a module. It finds its neighbours, as it does when it is run."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hints() -> ModuleType:
    return load("hints")


@pytest.fixture(scope="module")
def site(hints: ModuleType) -> ModuleType:
    load("pictures")
    return load("site_pages")


def written(tmp_path: Path, code: str) -> Path:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "part.py").write_text(code)
    return tmp_path / "package"


def test_a_hint_is_found_with_its_message_its_family_and_its_commands(hints: ModuleType, tmp_path: Path) -> None:
    package = written(
        tmp_path,
        'HELP = "look there"\n'
        'raise StateError(f"{name}: it is gone", hint=f"{command(Verb.VOLUME_LIST)} shows it; {HELP}, {name}")\n',
    )
    (one,) = hints.find_hints(package)
    assert (one.family, one.message) == ("StateError", "…: it is gone")
    assert one.text == "`nixops-proxmox volume list` shows it; look there, …"
    assert one.verbs == ("volume-list",)


def test_what_a_function_of_the_module_says_is_found(hints: ModuleType, tmp_path: Path) -> None:
    code = (
        'def told():\n    """What is said."""\n    return f"{name} is gone"\n'
        'def hint():\n    return f"{command(Verb.STATUS)} shows it"\nraise StateError(told(), hint=hint())\n'
    )
    (one,) = hints.find_hints(written(tmp_path, code))
    assert (one.message, one.text) == ("… is gone", "`nixops-proxmox status` shows it")
    assert one.verbs == ("status",)


@pytest.mark.parametrize(
    "code",
    [
        'raise StateError("no hint")',
        'raise ValueError("not ours", hint="nothing")',
        'raise StateError("only known at run time", hint=hint)',
    ],
)
def test_what_says_nothing_is_no_hint(hints: ModuleType, tmp_path: Path, code: str) -> None:
    assert hints.find_hints(written(tmp_path, code)) == []


def test_every_class_of_errors_has_a_title_and_a_page_to_read_on(hints: ModuleType, site: ModuleType) -> None:
    classes = set(hints.error_classes()) - {"DeployError"}
    assert set(site.FAMILIES) == classes
    for _, page in site.FAMILIES.values():
        assert site._name(page) != page, f"{page} has no such heading"


def test_every_command_in_a_hint_leads_to_its_help(hints: ModuleType, site: ModuleType) -> None:
    heads = set()
    for line in (ROOT / "docs" / "cli.md").read_text().splitlines():
        if line.startswith("## "):
            heads.add(line[3:].replace(" ", "-"))
    flags = {"break-lock", "confirm", "outside-windows", "make-another"}
    for one in hints.find_hints():
        for verb in one.verbs:
            assert verb in flags or site.anchor_of(verb) in heads, f"{one.place}: {verb}"


def test_what_a_message_has_of_markdown_is_shown_as_it_is(site: ModuleType, hints: ModuleType) -> None:
    hostile = hints.Hint("StateError", "a *b* [c](d) <e> `f`", "<script>`kept`", (), "x:1")
    page = site.messages_page([hostile])
    assert "a \\*b\\* \\[c\\](d) \\<e\\> \\`f\\`" in page
    assert "\\<script\\>`kept`" in page


def test_links_lead_from_the_repository_to_the_site(site: ModuleType) -> None:
    fence = "```\n[e](../README.md)\n```\n"
    text = "[a](../README.md#x) [b](volumes.md) ![c](y.png) [d](../examples/demo/network.nix)\n"
    turned = "[a](index.md#x) [b](volumes.md) ![c](y.png) [d](files/examples/demo/network.nix.md)\n"
    assert site.at_home(text + fence, "docs/plan.md", "plan.md") == turned + fence
    picture = site.at_home("![a run](docs/recordings/x.svg)", "README.md", "index.md")
    assert picture == "![a run](recordings/x.svg)"
    assert site.at_home("[a](../plan.md)", "docs/decisions/0001-x.md", "decisions/0001-x.md") == "[a](../plan.md)"
    assert site.at_home("[a](docs/decisions)", "CONTRIBUTING.md", "contributing.md") == "[a](decisions/README.md)"
