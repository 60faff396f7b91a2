"""The site is built from the repository alone. Its links lead somewhere, and nothing is fetched from elsewhere."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import Page, read_site

ROOT = Path(__file__).resolve().parents[2]
FROM_ELSEWHERE = re.compile(r"https?:|//")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NO_MKDOCS_2_WARNING": "true",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nobody is there
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(built: Path) -> Mapping[Path, Page]:
    return read_site(built)


def test_every_link_of_the_site_leads_to_a_page_and_an_anchor_that_exist(pages: Mapping[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            file, _, anchor = link.partition("#")
            there = (path.parent / unquote(file)).resolve() if file else path
            if re.match(r"[a-z]+:", link) or path.name == "404.html":
                continue
            if not there.exists() or (anchor and there in pages and unquote(anchor) not in pages[there].anchors):
                dead.append(f"{path.name}: {link}")
    assert dead == []


def test_no_page_has_a_browser_fetch_anything_from_elsewhere(built: Path, pages: Mapping[Path, Page]) -> None:
    fetched = {(path.name, what) for path, page in pages.items() for what in page.fetched}
    assert {one for one in fetched if FROM_ELSEWHERE.match(one[1])} == set()
    assert any(what.endswith("worker.js") for _, what in fetched), "the search of pages that are files needs it"
    for style in built.rglob("*.css"):
        assert re.findall(r"url\(\s*['\"]?(?:https?:)?//", style.read_text()) == [], style.name
    for script in built.rglob("bundle.*.js"):
        assert "unpkg.com" not in script.read_text(), script.name


def test_the_search_knows_every_page(built: Path, pages: Mapping[Path, Page]) -> None:
    found = json.loads((built / "search" / "search_index.json").read_text())["docs"]
    known = {one["location"].partition("#")[0] or "index.html" for one in found}
    assert {str(path.relative_to(built.resolve())) for path in pages} - known == {"404.html"}


def test_every_hint_of_the_program_is_on_the_page_of_messages(built: Path) -> None:
    text = (built / "messages.html").read_text()
    for words in ("no network here", "set PROXMOX_VE_ENDPOINT and PROXMOX_VE_API_TOKEN", "add --remove"):
        assert words in text
    assert 'href="cli.html#nixops-proxmox-volume-detach"' in text


def test_a_diagram_is_a_picture_without_a_script(built: Path) -> None:
    text = (built / "lifecycle.html").read_text()
    assert "stateDiagram" not in text
    assert text.count('class="arrow"') > 20 and "Boot the installer" in text
