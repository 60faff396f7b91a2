"""Taking over a machine: what SSH says of the host key that the agent told, and what runs inside."""

import pytest

from nixops_proxmox.errors import GuestError, NoPath
from nixops_proxmox.guest.system import tell_system
from nixops_proxmox.model import Endpoint, Facts, Machine, Phase
from nixops_proxmox.operations.adopting import Adoption, Target, with_ssh_witness

KEY = "ssh-ed25519 AAAA"
ALONE = "its host key is known through the agent alone, SSH could not be asked: "


def adoption(phase: Phase = Phase.RUNNING, key: str = KEY) -> Adoption:
    return Adoption(Target("104"), machine=Machine("shop", "web", phase, Facts(host_key=key)))


def test_a_key_that_ssh_proves_as_well_is_told() -> None:
    (told,) = with_ssh_witness(adoption(), lambda _: ([], Endpoint("10.0.0.12"))).remarks
    assert told == "its host key is the same through the agent and through SSH (10.0.0.12)"


def test_so_is_one_that_ssh_could_not_prove() -> None:
    def refuse(_: Machine) -> tuple[list[str], Endpoint | None]:
        raise NoPath("the way is closed")

    other = "10.0.0.12:22: another machine answered (it has another host key)"
    assert with_ssh_witness(adoption(), lambda _: ([other], None)).remarks == (f"{ALONE}{other}",)
    assert with_ssh_witness(adoption(), lambda _: ([], None)).remarks == (f"{ALONE}it has no address",)
    assert with_ssh_witness(adoption(), refuse).remarks == (f"{ALONE}the way is closed",)


@pytest.mark.parametrize("one", [adoption(Phase.STOPPED), adoption(key=""), Adoption(Target("104"), problem="gone")])
def test_where_there_is_no_key_nothing_is_asked(one: Adoption) -> None:
    def fail(_: Machine) -> tuple[list[str], Endpoint | None]:
        raise AssertionError("nothing is to be asked")

    assert with_ssh_witness(one, fail) == one


@pytest.mark.parametrize(
    ("mounts", "told"),
    [
        ("rootfs / rootfs rw 0 0\n/dev/sda2 / ext4 rw 0 0\nproc /proc proc rw 0 0\n", ", / on /dev/sda2 (ext4)"),
        ("", ""),
        ("\xff garbage\n", ""),
    ],
)
def test_what_runs_inside_is_told_as_far_as_the_guest_tells_it(mounts: str, told: str) -> None:
    def read(path: str) -> bytes:
        assert path == "/proc/mounts"
        return mounts.encode("latin-1")

    assert tell_system({"pretty-name": "NixOS 25.05"}, read) == f"NixOS 25.05{told}"
    assert tell_system({"pretty-name": ["strange"]}, read) == f"an unnamed system{told}"


def test_a_guest_that_tells_nothing_raises() -> None:
    def refuse(_: str) -> bytes:
        raise GuestError("no such file")

    with pytest.raises(GuestError):
        tell_system({}, refuse)
