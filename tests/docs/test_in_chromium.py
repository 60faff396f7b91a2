"""The report and the site in a real browser: nothing is fetched, all fits a phone, and all can be read."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.messages.report.page import report_page
from nixops_proxmox.messages.report.topology import topology
from tests.browser import Browser, find_obstacle, start_browser
from tests.messages.report import values as made
from tests.pace import wait_until

pytestmark = [pytest.mark.weekly, pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle() or "-")]
ROOT = Path(__file__).resolve().parents[2]
TAB = "\ue004"
# The contrast of each text with what is behind it, as the browser has painted them: the worst ones.
CONTRAST = """
const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255,255,255)'; };
const worst = [];
for (const e of document.querySelectorAll('h1,h2,h3,p,li,td,th,a,summary,code,span,footer')) {
  if (!e.innerText.trim() || !e.checkVisibility()) continue;
  const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) worst.push([e.tagName, e.innerText.slice(0, 30), ratio]);
}
return worst;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("report") / "shop.html"
    file.write_text(report_page(made.values(), topology(made.machines()), made.T0))
    return file.as_uri()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("site")
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(argv, cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return folder.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_report_can_be_read_everywhere(browser: Browser, report: str, width: int, scheme: str) -> None:
    browser.open(report, width=width, scheme=scheme)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run(CONTRAST) == []
    dark = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_report_fetches_nothing_and_complains_of_nothing(browser: Browser, report: str) -> None:
    browser.asked_for()
    browser.open(report)
    assert browser.asked_for() == [report]
    assert browser.complaints() == []


def test_a_keyboard_reaches_every_part_of_a_report(browser: Browser, report: str) -> None:
    browser.open(report)
    reached = []
    for _ in range(30):
        browser.press(TAB)
        reached.append(
            browser.run("const e = document.activeElement; return e.innerText.trim() || e.ariaLabel || e.tagName")
        )
    assert reached[0] == "Skip to the content"
    assert "History" in reached and any(one.startswith("All ") and one.endswith("entries") for one in reached)
    wide = browser.run("return [...document.querySelectorAll('.wide')].every((e) => e.tabIndex === 0)")
    assert wide


@pytest.mark.parametrize(
    "payload", ["<img src=x onerror=document.title='owned'>", "</style><script>document.title='owned'</script>"]
)
def test_a_payload_does_nothing(browser: Browser, tmp_path: Path, payload: str) -> None:
    file = tmp_path / "hostile.html"
    file.write_text(report_page(made.with_text(made.values(), payload), topology(made.machines()), made.T0))
    browser.open(file.as_uri())
    assert browser.run("return document.querySelectorAll('img,script,iframe').length") == 0
    assert not browser.run("return document.title").startswith("owned")


@pytest.mark.parametrize(
    "page", ["index.html", "options.html", "cli.html", "rights.html", "lifecycle.html", "messages.html"]
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_of_the_site_fits_a_phone_and_fetches_nothing(
    browser: Browser, site: str, page: str, scheme: str
) -> None:
    browser.asked_for()
    browser.open(f"{site}/{page}", width=390, scheme=scheme)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert {url for url in browser.asked_for() if not url.startswith(("file:", "data:"))} == set()
    assert browser.complaints() == []


# What is cut off on paper, which does not scroll.
CUT_OFF = """
return [...document.querySelectorAll('h1,h2,h3,p,li,td,th,pre,svg,img')].filter((e) => e.checkVisibility()
  && e.getBoundingClientRect().right > innerWidth + 1).map((e) => [e.tagName, e.innerText]);
"""
PAPER = 718  # the columns of an A4 page between its margins


@pytest.mark.parametrize("page", ["rights.html", "json.html", "lifecycle.html", "cli.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_of_the_site_is_whole_and_dark_on_white_on_paper(
    browser: Browser, site: str, page: str, scheme: str
) -> None:
    browser.open(f"{site}/{page}", width=PAPER, scheme=scheme, media="print")
    assert browser.run(CUT_OFF) == []
    assert browser.run(CONTRAST) == []
    assert browser.run("return getComputedStyle(document.querySelector('h1')).color") == "rgba(0, 0, 0, 0.87)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_is_whole_on_paper(browser: Browser, report: str, scheme: str) -> None:
    browser.open(report, width=PAPER, scheme=scheme, media="print")
    assert browser.run(CUT_OFF) == []
    assert browser.run(CONTRAST) == []
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_keyboard_skips_to_the_content_of_a_page(browser: Browser, site: str) -> None:
    browser.open(f"{site}/plan.html")
    browser.press(TAB)
    assert browser.run("return document.activeElement.innerText") == "Skip to content"


def test_the_search_works_in_pages_that_are_files(browser: Browser, site: str) -> None:
    browser.open(f"{site}/index.html?q=recovery+key")
    found = "return [...document.querySelectorAll('.md-search-result__item a')].map((e) => e.getAttribute('href'))"
    wait_until(lambda: browser.run(found), 30, "the search finds something")
    assert any("encryption.html" in one or "keys" in one for one in browser.run(found))
