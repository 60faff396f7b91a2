"""What the core and the state know of a thing, whatever kind it is of."""

from collections.abc import Mapping
from typing import Any, Protocol, Self


class AnyFacts(Protocol):
    """What is known of one thing, in a frozen dataclass. Never a secret."""

    @property
    def task(self) -> str:
        """The UPID of a PVE task that the current move started and that must be waited for. Empty: none."""
        ...

    @property
    def errand(self) -> Mapping[str, str]:
        """What a run was doing beside the table, until it has ended."""
        ...

    def to_json(self) -> Mapping[str, Any]: ...


class AnyThing(Protocol):
    """Something that a deployment has: a machine, a medium. Kind and name tell it from all others of the deployment."""

    @property
    def kind(self) -> str: ...

    @property
    def deployment(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def phase(self) -> str: ...

    @property
    def facts(self) -> AnyFacts: ...

    def moved(self, phase: Any, facts: Any, /) -> Self: ...
