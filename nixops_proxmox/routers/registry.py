"""Drivers by type: our own, and those of other packages, found by their entry point `nixops_proxmox.routers`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pluggy

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.packages import find_packages
from nixops_proxmox.routers.address_book import AddressBook
from nixops_proxmox.routers.dnsmasq import Dnsmasq
from nixops_proxmox.routers.kea import Kea
from nixops_proxmox.routers.opnsense import Opnsense
from nixops_proxmox.routers.profile import RouterProfile
from nixops_proxmox.routers.reservation import Router
from nixops_proxmox.routers.vyos import Vyos

GROUP = "nixops_proxmox.routers"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

Drivers = Mapping[str, Callable[[RouterProfile], Router]]


class RouterHooks:
    """What a package that brings drivers implements, in the module that its entry point names."""

    @hookspec
    def drivers(self) -> Drivers:
        """What makes a router of a profile, by type."""
        raise NotImplementedError


class OurDrivers:
    @hookimpl
    def drivers(self) -> Drivers:
        return {"dnsmasq": Dnsmasq, "kea": Kea, "opnsense": Opnsense, "pve": AddressBook, "vyos": Vyos}


def find_drivers() -> dict[str, Callable[[RouterProfile], Router]]:
    """Raises ConfigError where a package cannot be loaded, or two bring a driver of the same type."""
    manager = find_packages(GROUP, RouterHooks, OurDrivers(), "routers")
    drivers: dict[str, Callable[[RouterProfile], Router]] = {}
    for brought in manager.hook.drivers():
        doubled = sorted(set(brought) & set(drivers))
        if doubled:
            raise ConfigError(f"two packages bring routers of the type {doubled[0]!r}", hint="uninstall one of them")
        drivers |= brought
    return drivers


@contextmanager
def open_router(profile: RouterProfile) -> Iterator[Router]:
    """Raises ConfigError for a type that no package brings."""
    drivers = find_drivers()
    if profile.type not in drivers:
        raise ConfigError(
            f"{profile.title}: there is no type {profile.type!r}", hint=f"known types: {', '.join(sorted(drivers))}"
        )
    router = drivers[profile.type](profile)
    try:
        yield router
    finally:
        close = getattr(router, "close", None)
        if close is not None:
            close()
