"""The resource mappings of a cluster."""

from nixops_proxmox.pve.api.answers import MappingSeen
from nixops_proxmox.pve.api.client import PveClient


class MappingStore:
    """Satisfies `kinds.mapping.kind.MappingStore`."""

    def __init__(self, client: PveClient) -> None:
        self._client = client

    def find(self, kind: str, name: str, /) -> MappingSeen | None:
        """Who may change all mappings of the kind sees all, so that "there is none" is certain."""
        return self._client.describe_mappings(kind).get(name)

    def create(self, kind: str, name: str, wanted: MappingSeen, /) -> None:
        self._client.create_mapping(kind, name, wanted)

    def change(self, kind: str, name: str, wanted: MappingSeen, /) -> None:
        self._client.change_mapping(kind, name, wanted)

    def delete(self, kind: str, name: str, /) -> None:
        self._client.delete_mapping(kind, name)
