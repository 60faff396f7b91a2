"""The lab as a hypervisor to begin with: started if it is not up, with a profile of its own."""

from nixops_proxmox.display.screen import Screen


def ensure_lab(name: str, screen: Screen) -> None:
    """`name`: of the lab, and of its profile. One that is up stays as it is."""
    from nixops_proxmox.cli import parse
    from nixops_proxmox.cli.lab import directory, run
    from nixops_proxmox.lab.service import find_running
    from nixops_proxmox.pve.wire.profiles import list_profiles

    args = parse(["lab", "--name", name, "up"])
    if find_running(directory(args)) is None or name not in list_profiles():
        run(args, screen)
