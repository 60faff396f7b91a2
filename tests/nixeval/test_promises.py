"""A system is active when its activation has ended well, and not before."""

from pathlib import Path

import pytest

from nixops_proxmox.errors import ActivationFailed
from nixops_proxmox.nixeval.activate import activate_system, find_active_system
from tests.nixeval.test_activate import SmallGuest, guest

__all__ = ["guest"]  # a fixture


@pytest.mark.parametrize("status", [1, 2, 4, 100])
def test_a_system_that_is_current_but_whose_activation_failed_is_not_active(guest: SmallGuest, status: int) -> None:
    """switch-to-configuration makes it current before units are started: so all but the marker says that it is done."""
    one = guest.make_system("one", "")
    activate_system(one, guest, machine="web")
    half = guest.make_system("half", "")
    current = guest.root / "run" / "current-system"
    program = Path(half) / "bin" / "switch-to-configuration"
    program.write_text(f"#!/bin/sh\nln -sfn {half} {current}\nexit {status}\n")
    if status == 100:
        assert activate_system(half, guest, machine="web").needs_reboot
    else:
        with pytest.raises(ActivationFailed):
            activate_system(half, guest, machine="web")
    assert str(current.readlink()) == half
    assert guest.profile.resolve() == Path(half)
    assert find_active_system(guest) == ""
    program.write_text("#!/bin/sh\nexit 0\n")
    activate_system(half, guest, machine="web")
    assert find_active_system(guest) == half
