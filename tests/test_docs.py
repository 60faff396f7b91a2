"""What the documents say must be so: links lead somewhere, commands and phases exist, generated parts are of today."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from nixops_proxmox.cli import VERBS
from nixops_proxmox.model import Phase
from nixops_proxmox.pve.wire.profiles import parse_profile
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.names import all_names

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(text: str) -> set[str]:
    heads = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"(?s)```.*?```", "", path.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file) if file else path
        assert there.exists(), f"{_name(path)}: {target}"
        if anchor:
            assert anchor in _anchors(there.read_text()), f"{_name(path)}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_commands_that_are_shown_exist(path: Path) -> None:
    for verb in re.findall(r"(?m)(?:^\s*[$#] |`)nixops-proxmox ([a-z]\w+)", path.read_text()):
        assert verb in VERBS, f"{_name(path)}: nixops-proxmox {verb}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_scripts_that_are_shown_exist(path: Path) -> None:
    for script in re.findall(r"(?<![\w/])scripts/([\w-]+(?:\.py)?)", path.read_text()):
        assert (ROOT / "scripts" / script).exists(), f"{_name(path)}: scripts/{script}"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    listed = set(re.findall(r"(?m)^ +- ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text()))
    missing = {path.name for path in (ROOT / "docs").glob("*.md")} - listed
    assert missing == set(), "give it a place below `nav` in mkdocs.yml"


def test_every_phase_is_explained() -> None:
    text = (ROOT / "docs" / "lifecycle.md").read_text()
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", text)) == {phase.value for phase in Phase}


def test_every_decision_is_listed_with_its_title() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\) \| (.+) \|", (folder / "README.md").read_text())
    written = [(path.name, path.read_text().splitlines()[0].partition(": ")[2]) for path in folder.glob("[0-9]*.md")]
    assert sorted(listed) == sorted(written)


def test_every_part_of_the_package_is_on_the_map() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "nixops_proxmox"
    parts = {path.parent.name for path in package.glob("*/__init__.py")}
    assert {part for part in parts if not re.search(rf"`{part}`", text)} == set()


@pytest.mark.parametrize("script", ["generate_docs.py", "kind_options.py", "layouts.py"])
def test_generated_parts_are_up_to_date(script: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--check"],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_block_is_written_anew_and_the_rest_is_left_alone(generate: ModuleType) -> None:
    text = "before\n<!-- generated: x -->\nold\n<!-- end: x -->\nafter\n"
    want = "before\n<!-- generated: x -->\nnew\n<!-- end: x -->\nafter\n"
    assert generate.with_blocks(text, {"x": lambda: "new"}) == want
    assert generate.with_blocks(want, {"x": lambda: "new"}) == want


def test_a_block_that_nobody_writes_is_an_error(generate: ModuleType) -> None:
    with pytest.raises(generate.NoSuchBlock, match="'y'; known: x"):
        generate.with_blocks("<!-- generated: y -->\n<!-- end: y -->", {"x": str})


def test_an_outdated_document_is_found(generate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("<!-- generated: x -->\nold\n<!-- end: x -->")
    (tmp_path / "b.md").write_text("nothing generated")
    assert [path.name for path, _ in generate.outdated(tmp_path, {"x": lambda: "new"})] == ["a.md"]


def test_the_profile_in_the_readme_is_one() -> None:
    found = re.search(r"(?s)```toml\n(.*?)```", (ROOT / "README.md").read_text())
    assert found is not None
    table = tomllib.loads(found[1].replace("AB:CD:…", ":".join(["AB"] * 32)))
    profile = parse_profile("default", table["default"])
    assert profile.is_token and profile.fingerprint == "ab" * 32


def test_the_descriptions_in_the_readme_name_options_that_exist() -> None:
    shown = re.search(r"(?s)deployment\.proxmox = \{\n(.*?)\n    \};", (ROOT / "README.md").read_text())
    assert shown is not None
    known = set(all_names(MachineSpec))
    assert set(re.findall(r"(?m)^      (\w+)", shown[1])) <= known


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_nobody_is_sent_to_a_package_index_for_it(path: Path) -> None:
    assert not re.search(r"(?m)pip install (?:.*\s)?'?nixops-proxmox\b", path.read_text()), "it is on none"


def test_the_worked_example_of_a_kind_is_the_one_that_is_tested() -> None:
    plugin = ROOT / "tests" / "kinds" / "plugin"
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert (plugin / "nixops_proxmox_notes.py").read_text() in text
    (named,) = re.findall(r"```toml\n(.*?)```", text, re.S)
    assert named in (plugin / "pyproject.toml").read_text()


def test_the_glossary_lists_each_word_once_in_order() -> None:
    words = re.findall(r"(?m)^\*\*(.+?)\*\*: ", (ROOT / "docs" / "glossary.md").read_text())
    assert words == sorted(set(words), key=str.lower)


OLD_WAYS = r"\b(?:anew|nobody (?:is|has)|is meant|are meant|whoever|in vain|unasked)\b"


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_pages_are_in_plain_english(path: Path) -> None:
    text = re.sub(r"(?s)```.*?```|\*Not\*: [^.]+", "", path.read_text())
    assert re.findall(OLD_WAYS, text, re.IGNORECASE) == []
