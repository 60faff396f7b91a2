"""Hypervisors that are changed with care: only in their windows, or only by word."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.options import Agreed
from nixops_proxmox.pve.wire.profiles import Profile
from nixops_proxmox.pve.wire.windows import find_opening, is_open
from nixops_proxmox.spelling import Verb, command


class Care:
    """`load` a profile by its name."""

    def __init__(self, agreed: Agreed, load: Callable[[str], Profile]) -> None:
        self._agreed, self._load, self._known = agreed, load, dict[str, Profile]()

    def _profile(self, name: str) -> Profile:
        if name not in self._known:
            self._known[name] = self._load(name)
        return self._known[name]

    def agree(self) -> None:
        """The user has confirmed what this run does."""
        self._agreed = replace(self._agreed, confirmed=True)

    def asking(self, profiles: Sequence[str]) -> list[str]:
        """Those of the hypervisors that ask for a word which was not said."""
        return [] if self._agreed.confirmed else [name for name in profiles if self._profile(name).confirm]

    def refuse(self, machine: str, profile: str) -> None:
        """Raises NeedsPermission if the machine may not be changed now."""
        windows, now = self._profile(profile).windows, self._agreed.moment()
        if not self._agreed.outside_windows and not is_open(windows, now):
            opening = find_opening(windows, now)
            told = ", ".join(window.text for window in windows)
            raise NeedsPermission(
                f"{machine}: machines on {profile} are changed only in its windows ({told}); the next one begins on"
                f" {opening:%a %d %b at %H:%M %Z}",
                hint=f"{command(Verb.OUTSIDE_WINDOWS)} to change it now",
            )
        if self.asking([profile]):
            raise NeedsPermission(
                f"{machine}: changes on {profile} need a word of yours, because its profile says `confirm`",
                hint=f"{command(Verb.CONFIRM)} agrees",
            )
