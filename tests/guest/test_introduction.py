"""A copied system gets its identity: by one script, in which nothing but keys that are keys can stand."""

from collections.abc import Callable
from typing import Any

import pytest

from nixops_proxmox.guest.introduction import introduce_script, is_introduced
from nixops_proxmox.model import Completed
from nixops_proxmox.ssh.keys import new_key_pair
from tests.lab.machines.conftest import namespaces as namespaces
from tests.lab.machines.conftest import play as play
from tests.lab.machines.simulated_bench import GIB, Bench
from tests.pace import turns

Play = Callable[..., None]
ODD = 'it\'s $(touch /tmp/oops) `x` "y"\n'


def test_what_is_no_public_key_is_refused() -> None:
    with pytest.raises(ValueError, match="not a public key"):
        introduce_script({}, ["'; reboot; '"], ["root"])


def test_only_the_last_line_says_that_it_was_done() -> None:
    assert is_introduced(Completed(0, "nixops-proxmox-introduced 1\n"))
    assert not is_introduced(Completed(1, "nixops-proxmox-introduced 1\n"))
    assert not is_introduced(Completed(0, "nixops-proxmox-introduced 10\n"))


def introduction(bench: Bench) -> tuple[str, str]:
    """(script, public host key)"""
    pair = new_key_pair()
    files = {
        "etc/ssh/ssh_host_ed25519_key": (pair.private, 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (pair.public + "\n", 0o644),
        "etc/nixops proxmox/odd": (ODD, 0o640),
    }
    return introduce_script(files, [bench.public.strip(), new_key_pair("b").public], ["root"]), pair.public


async def boot_image(bench: Bench, body: Any = None) -> Any:
    """A guest whose disk is a copy of an image file: a plain system."""
    image = bench.directory / "image.raw"
    image.write_bytes(b"somebody's system")
    hardware = await bench.hardware(boot=("scsi0",))
    from nixops_proxmox.lab.machines.base import Volume

    slot = hardware.disks[0]
    assert slot.volume is not None
    await bench.driver.free(slot.volume)
    await bench.driver.copy(Volume("local:import/image.raw", image, GIB, "raw"), slot.volume)
    return hardware, await bench.power_on(hardware)


async def shown_key(bench: Bench, machine: Any) -> str:
    async with await bench.ssh(machine) as connection:
        key = connection.get_server_host_key()
    assert key is not None
    return " ".join(key.export_public_key().decode().split()[:2])


async def meets(bench: Bench, machine: Any, public: str) -> None:
    async def shows() -> bool:
        return await shown_key(bench, machine) == public

    await turns(shows, what="the new host key")


@pytest.mark.netns
def test_a_copied_system_takes_host_key_and_authorized_keys_and_keeps_them(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware, machine = await boot_image(bench)
        script, public = introduction(bench)
        for _ in range(2):
            done = await bench.run(machine, "cat > /run/once; /bin/sh /run/once; ls /run/once >&2", script.encode())
            assert is_introduced(Completed(0, done.out)) and "No such file" in done.err, done
        await meets(bench, machine, public)
        assert (
            await bench.must(machine, "stat -c %a /etc/ssh/ssh_host_ed25519_key '/etc/nixops proxmox/odd'")
            == "600\n640\n"
        )
        assert await bench.must(machine, "cat '/etc/nixops proxmox/odd'; ls /tmp") == ODD
        keys = await bench.must(machine, "cat /root/.ssh/authorized_keys")
        assert len(keys.splitlines()) == 2 and keys.startswith(bench.public.strip())
        await machine.power_off()
        await meets(bench, await bench.power_on(hardware), public)

    play(scenario)


@pytest.mark.netns
def test_a_user_that_the_system_does_not_have_is_named(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        _, machine = await boot_image(bench)
        done = await bench.run(machine, introduce_script({}, [bench.public.strip()], ["root", "admin"]))
        assert not is_introduced(Completed(done.status, done.out)) and "there is no user admin" in done.err

    play(scenario)


@pytest.mark.netns
def test_a_scripted_guest_takes_it_too(play: Play) -> None:
    from nixops_proxmox.lab.machines.simulated import Body, Options

    async def scenario(bench: Bench) -> None:
        hardware, machine = await boot_image(bench)
        script, public = introduction(bench)
        done = await bench.run(machine, script)
        assert is_introduced(Completed(done.status, done.out)), done
        await meets(bench, machine, public)
        await machine.power_off()
        await meets(bench, await bench.power_on(hardware), public)

    play(scenario, Options(body=Body.SCRIPTED))
