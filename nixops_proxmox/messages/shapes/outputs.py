"""What each verb prints with --json, and its JSON Schema."""

import re
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from nixops_proxmox.messages.shapes.machines import (
    ChecksJson,
    DestroyedMachinesJson,
    ForgottenJson,
    GenerationsJson,
    HistoryJson,
    IdentitiesJson,
    MacsJson,
    StatusJson,
)
from nixops_proxmox.messages.shapes.plan import PlansJson
from nixops_proxmox.messages.shapes.setup import (
    AdoptionsJson,
    FindingsJson,
    KeyProofsJson,
    LabJson,
    LifecycleJson,
    NoLabJson,
    ProfileJson,
    ProfilesJson,
    RecoverablesJson,
    SetUpJson,
    StrangeResourcesJson,
)
from nixops_proxmox.messages.shapes.volumes import (
    BackupsJson,
    SnapshotsJson,
    UploadJson,
    UploadRemovedJson,
    UploadsJson,
    VolumesJson,
)

OUTPUTS: Mapping[str, Any] = {  # by verb, in the order of the command line
    "init": SetUpJson,
    "plan": PlansJson,
    "status": StatusJson,
    "history": HistoryJson,
    "destroy": DestroyedMachinesJson | ForgottenJson,
    "check": ChecksJson,
    "recover": RecoverablesJson,
    "adopt": AdoptionsJson | StrangeResourcesJson,
    "rollback": GenerationsJson,
    "snapshot list": SnapshotsJson,
    "backup": BackupsJson,
    "identity show": IdentitiesJson,
    "recovery test": KeyProofsJson,
    "doctor": FindingsJson,
    "iso upload": UploadJson | UploadsJson,
    "iso remove": UploadRemovedJson,
    "volume list": VolumesJson,
    "macs list": MacsJson,
    "profile list": ProfilesJson,
    "profile show": ProfileJson,
    "lifecycle": LifecycleJson,
    "lab status": NoLabJson | LabJson,
}


def schema_of(verb: str) -> dict[str, Any]:
    """A JSON Schema (2020-12) of what the verb prints with --json. KeyError for a verb that prints none."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class Brief(GenerateJsonSchema):
        """Without a title for each key: it would say the key again."""

        @override
        def field_title_should_be_set(self, schema: Any) -> bool:
            del schema
            return False

    found = _named(TypeAdapter(OUTPUTS[verb]).json_schema(schema_generator=Brief))
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"nixops-proxmox {verb} --json"}
    return {**head, **{key: value for key, value in found.items() if key != "title"}}


def _named(schema: Any) -> Any:
    """Types by their names alone: that they are of JSON needs not be said here."""
    match schema:
        case dict():
            return {key.removesuffix("Json"): _named(value) for key, value in schema.items()}
        case list():
            return [_named(one) for one in schema]
        case str():
            return re.sub(r"^(#/\$defs/\w+|\w+)Json$", r"\1", schema)
    return schema
