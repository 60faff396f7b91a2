"""JSON Patch (RFC 6902) on plain values: all or nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from jsonpatch import JsonPatch, JsonPatchException
from jsonpointer import JsonPointerException

from nixops_proxmox.errors import DeployError


class BadPatch(DeployError):
    """The patch does not fit the document. Nothing was changed."""

    exit_status = 2


def apply_patch(document: Any, patch: Sequence[Mapping[str, Any]]) -> Any:
    """A new document. The old one is not touched. Raises BadPatch, which names the operation by its number."""
    result = document
    for number, operation in enumerate(patch):
        try:
            result = JsonPatch([operation]).apply(result)  # works on a copy
        except (JsonPatchException, JsonPointerException) as error:
            raise BadPatch(f"operation {number} of the patch does not fit: {error}") from error
    return result
