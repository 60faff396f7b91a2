"""Errors say where the documents explain them, and that is there."""

from pathlib import Path

import pytest

from nixops_proxmox import errors
from nixops_proxmox.errors import DeployError
from nixops_proxmox.messages.reading import DOCS, PLACES, find_place, read_on
from tests.docs.test_hints import load
from tests.test_docs import _anchors

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("place", sorted(set(PLACES.values())))
def test_a_place_that_an_error_names_is_in_the_documents(place: str) -> None:
    file, _, anchor = place.partition("#")
    text = (ROOT / DOCS / file).read_text()
    assert not anchor or anchor in _anchors(text)


def test_the_site_leads_from_an_error_to_the_same_place() -> None:
    load("hints")
    load("pictures")
    families = load("site_pages").FAMILIES
    assert {one.__name__: families[one.__name__][1] for one in PLACES} == {
        one.__name__: place for one, place in PLACES.items()
    }


def test_a_report_names_each_place_once_and_not_too_many() -> None:
    lost = [errors.NoEndpoint("web: no address answered"), errors.SshUnreachable("db: no connection")]
    assert [line.text for line in read_on(lost)] == ["more: docs/debugging.md#no-address-answered-as-this-machine"]
    all_of_them = [errors.Locked(""), errors.NoPlace(""), errors.VmidTaken(""), errors.HostKeyChanged("")]
    assert len(read_on(all_of_them)) == 3


@pytest.mark.parametrize("error", [errors.ConfigError("a flag is wrong"), errors.ActivationFailed("it failed")])
def test_an_error_whose_message_is_all_names_no_place(error: DeployError) -> None:
    assert find_place(error) is None and read_on([error]) == []
