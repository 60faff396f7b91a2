"""Guests of which only a model exists, a thousand at a time; and hosts that only look like ours."""

import asyncio
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from nixops_proxmox.lab.machines.simulated import Body, Options
from nixops_proxmox.lab.machines.simulated.options import Modelled
from tests.lab.machines.simulated_bench import Bench
from tests.ports import free_port

Play = Callable[..., None]
pytestmark = pytest.mark.netns
MARK = "# nixops-proxmox:"
JOB = f"{MARK} job-start install-0"
FIND = f"{MARK} job-find install-0 0"


def test_a_scripted_guest_is_installed_and_boots_with_the_delivered_host_key(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware(boot=("scsi0", "ide2"))
        machine = await bench.power_on(hardware)
        entered = await bench.must(machine, f"{MARK} enter '{bench.public.strip()}'")
        assert "kind installer" in entered
        key = asyncssh.generate_private_key("ssh-ed25519")
        async with await bench.ssh(machine) as connection:
            assert (await connection.run("grep -qs ' /mnt ' /proc/self/mounts")).exit_status == 1
            await connection.run(JOB.replace("install", "partition"), input=f"{MARK} partition")
            await connection.run(FIND.replace("install", "partition"))
            assert (await connection.run("grep -qs ' /mnt ' /proc/self/mounts")).exit_status == 0
            await connection.run(f"{MARK} deliver", input=archive(bench, key), encoding=None)
            await connection.run(JOB, input=f"{MARK} install")
            assert (await connection.run(FIND)).stdout == "nixops-proxmox-job done 0\n"
        await machine.power_off()

        machine = await bench.power_on(hardware)
        assert machine.body is not None and not machine.body.about.installer
        async with await bench.ssh(machine) as connection:
            assert (await connection.run("hostname")).stdout == "db\n"
            shown = connection.get_server_host_key()
        assert shown is not None and shown.export_public_key() == key.export_public_key()

    play(scenario, Options(body=Body.SCRIPTED))


def archive(bench: Bench, key: asyncssh.SSHKey) -> bytes:
    packed = io.BytesIO()
    files = {
        "etc/ssh/ssh_host_ed25519_key": key.export_private_key(),
        "etc/ssh/ssh_host_ed25519_key.pub": key.export_public_key(),
        "root/.ssh/authorized_keys": bench.public.encode(), "etc/hostname": b"db\n",
    }  # fmt: skip
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def test_what_a_scripted_guest_does_not_know_fails_and_what_it_was_taught_does_not(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        for unknown in ("frobnicate", "cat /etc/hostname; reboot", "true\nreboot", f"{MARK} frobnicate\ntrue", "' "):
            assert (await bench.run(machine, unknown)).status == 127
        answer = await bench.run(machine, "greet the world")
        assert (answer.status, answer.out) == (4, "hello")

    play(scenario, Options(body=Body.SCRIPTED, modelled=(Modelled("^greet", out="hello", status=4),)))


def test_a_hundred_scripted_guests_are_up_without_a_process_for_each(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = [await bench.hardware(1000 + number) for number in range(100)]
        await bench.power_on(hardware[0])  # what is started once for all
        before = children()
        await asyncio.gather(*(bench.power_on(one) for one in hardware[1:]))
        assert children() == before

    play(scenario, Options(body=Body.SCRIPTED))


def children() -> int:
    """How many processes this one has started and not yet seen end."""
    return sum(len(file.read_text().split()) for file in Path("/proc/self/task").glob("*/children"))


def test_without_namespaces_scripted_guests_are_on_loopback(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port("127.77.0.1")
        bench = Bench(tmp_path, Options(body=Body.SCRIPTED, loopback=True, ssh_port=port))
        await bench.driver.open()
        try:
            machine = await bench.power_on(await bench.hardware())
            assert bench.addresses(machine) == ["127.77.0.1"]
            await bench.must(machine, f"{MARK} enter '{bench.public.strip()}'")
            login = {"username": "root", "client_keys": [bench.key], "known_hosts": None, "config": None}
            async with asyncssh.connect("127.77.0.1", port, **login) as connection:
                assert (await connection.run("hostname")).stdout == "nixos-installer\n"
            await machine.power_off()
            with pytest.raises(OSError):
                await asyncssh.connect("127.77.0.1", port, **login)
        finally:
            await bench.driver.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("address", ["172.17.0.1", "10.77.0.99", "fd77:77::dec0"])
def test_a_decoy_answers_with_another_key_and_lets_nobody_in(play: Play, address: str) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.power_on(await bench.hardware())
        await bench.driver.add_decoy(address)
        sock = await bench.driver.network.holder.connect(address, 22)
        seen = await asyncssh.get_server_host_key(sock=sock, config=None)
        ours = await bench.must(machine, "cat /etc/ssh/ssh_host_ed25519_key.pub")
        assert seen is not None and seen.export_public_key().decode().split()[1] != ours.split()[1]
        with pytest.raises(asyncssh.PermissionDenied):
            await bench.ssh(machine, address)

    play(scenario)


def test_a_swapped_disk_is_seen_at_once_and_keeps_no_other_ones_name(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        hardware = await bench.hardware(boot=("ide2", "scsi0"))
        machine = await bench.power_on(hardware)
        other = replace(await bench.new_disk("scsi1", 102, "theirs"), key="scsi0")
        await machine.change(hardware, replace(hardware, disks=(other, bench.cd)))
        told = await bench.must(machine, f"{MARK} list-disks")
        assert "theirs" in told and "root1" not in told and '"sdb"' in told

    play(scenario, Options(body=Body.SCRIPTED))
