"""JSON Patch by the examples of RFC 6902's appendix, and what must be refused."""

from typing import Any

import pytest

from nixops_proxmox.nixops4.patch import BadPatch, apply_patch


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        ({"foo": [1, 2, 3]}, [{"op": "move", "from": "/foo/0", "path": "/foo/2"}], {"foo": [2, 3, 1]}),
        ({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": ["b"]}], {"foo": ["a", ["b"]]}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({}, [{"op": "add", "path": "", "value": {"_type": "nixopsState"}}], {"_type": "nixopsState"}),
        ({"foo": None}, [{"op": "test", "path": "/foo", "value": None}], {"foo": None}),
    ],
)
def test_a_patch_leads_to_the_document_that_the_rfc_says(document: Any, patch: Any, result: Any) -> None:
    before = repr(document)
    assert apply_patch(document, patch) == result
    assert repr(document) == before


@pytest.mark.parametrize(
    ("document", "patch", "why"),
    [
        ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], "bar .* not equal|not equal .*bar"),
        ({"foo": {"a": [1]}}, [{"op": "test", "path": "/foo", "value": {"a": [True]}}], "not equal"),
        ({"foo": 1}, [{"op": "test", "path": "/foo", "value": True}], "not equal"),
        ({}, [{"op": "add", "path": "/a/b", "value": 1}], "member 'a' not found"),
        ({"a": []}, [{"op": "add", "path": "/a/1", "value": 1}], "outside of list"),
        ({"a": []}, [{"op": "add", "path": "/a/01", "value": 1}], "not a valid sequence index"),
        ({}, [{"op": "remove", "path": "/a"}], "non-existent"),
        ({}, [{"op": "replace", "path": "/a", "value": 1}], "non-existent"),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": "/a/b"}], "into their own children"),
        ({}, [{"op": "frobnicate", "path": "/a"}], "Unknown operation"),
        ({}, [{"op": "add", "path": "a", "value": 1}], "must start with /"),
        ({}, [{"op": "add", "path": "/a"}], "does not contain a 'value'"),
        ({"a": 1}, [{"op": "add", "path": "/a/b", "value": 1}], "does not support indexing"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_and_named(document: Any, patch: Any, why: str) -> None:
    with pytest.raises(BadPatch, match=why) as refused:
        apply_patch(document, patch)
    assert "operation 0" in str(refused.value)
