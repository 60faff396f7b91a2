"""Which Proxmox VE the lab plays, and the questions that differ between releases."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Release:
    number: tuple[int, int]
    version: str
    repoid: str

    @property
    def name(self) -> str:
        return f"{self.number[0]}.{self.number[1]}"

    def since(self, major: int, minor: int = 0) -> bool:
        return self.number >= (major, minor)

    @property
    def message_in_body(self) -> bool:
        """http-server 5.2 puts the error text into the JSON body as well."""
        return self.since(8, 4)

    @property
    def body_limit(self) -> int:
        return 512 * 1024 if self.since(8, 4) else 64 * 1024

    @property
    def uniform_refusal(self) -> bool:
        """Every bad credential is "Authentication failed!" (pve-manager 8.4.17 and 9.1.6); before, the cause leaks."""
        return self.number == (8, 4) or self.since(9, 1)

    @property
    def consoles_have_passwords(self) -> bool:
        """A display has one by itself, since 8.4.19 and 9.1: together with what lets API tokens open terminals."""
        return self.uniform_refusal

    @property
    def guest_agent_privileges(self) -> bool:
        return self.since(9)


RELEASES = {
    "7.4": Release((7, 4), "7.4-20", "7f2ae3c2b5a1d6ef"),
    "8.4": Release((8, 4), "8.4.21", "2606ac850d46da29"),
    "9.0": Release((9, 0), "9.0.11", "3bf5476b8a4699e2"),
    "9.1": Release((9, 1), "9.1.6", "71482d1833ad40a2"),
}
ALIASES = {"7": "7.4", "7.x": "7.4", "8": "8.4", "8.x": "8.4", "9": "9.1", "9.x": "9.1"}


def get_release(name: str) -> Release:
    """By "8.4", "8" or "8.x"; ValueError names what there is."""
    try:
        return RELEASES[ALIASES.get(name, name)]
    except KeyError:
        raise ValueError(f"the lab plays Proxmox VE {', '.join(RELEASES)}, not {name!r}") from None
