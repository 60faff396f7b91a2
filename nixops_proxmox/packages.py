"""Other packages that bring something of ours, found by their entry points."""

from importlib.metadata import entry_points

import pluggy

from nixops_proxmox.errors import ConfigError


def find_packages(group: str, hooks: type, ours: object | None, what: str) -> pluggy.PluginManager:
    """Those of the entry point `group`, and `ours`. `what` they bring, for people. Raises ConfigError where one cannot
    be loaded."""
    manager = pluggy.PluginManager(group)
    manager.add_hookspecs(hooks)
    if ours is not None:
        manager.register(ours)
    for found in entry_points(group=group):
        try:
            manager.register(found.load(), name=found.name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"the {what} of the package {found.name!r} cannot be loaded: {error}", hint="repair or uninstall it"
            ) from error
    return manager
