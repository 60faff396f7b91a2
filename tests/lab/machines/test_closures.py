"""Closures are received by the guest's own Nix, and what they activate runs, survives, and comes back at boot."""

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.builds import BUILDER, nix_config
from tests.lab.machines.simulated_bench import PARTITION, Bench, until
from tests.nixes import NIXES, nix_path

Play = Callable[..., None]
pytestmark = [
    pytest.mark.netns,
    pytest.mark.nix,
    pytest.mark.skipif(shutil.which("nix-store") is None, reason="no Nix here"),
]

NETWORK = """
let
  builder = import BUILDER;
  system = word: builder "toplevel-${word}" { } ''
      mkdir -p $out/bin $out/services
      printf '#!/bin/sh\\necho activated ${word} >>/var/log/activations\\n' >$out/activate
      printf '#!/bin/sh\\necho "${word} $REQUEST_PATH from $(hostname)"\\n' >$out/handler
      printf "#!/bin/sh\\nexec serve-http 8080 $out/handler\\n" >$out/services/web
      cat >$out/bin/switch-to-configuration <<'EOF'
      #!/bin/sh
      top=$(dirname "$(dirname "$(readlink -f "$0")")")
      case "$1" in
        switch|test) "$top/activate" && ln -sfn "$top" /run/current-system && lab-services switch "$top" ;;
        boot) ;;
        *) exit 1 ;;
      esac
      EOF
      chmod +x $out/activate $out/handler $out/services/web $out/bin/switch-to-configuration
    '';
in { one = system "one"; two = system "two"; }
"""


class Operator:
    """Somebody with a Nix of their own, who speaks to the guest's by `scheme`."""

    def __init__(self, bench: Bench, which: str = "own", scheme: str = "ssh") -> None:
        self.bench, self.scheme = bench, scheme
        self.home = bench.directory / "operator"
        self.home.mkdir()
        (self.home / "network.nix").write_text(NETWORK.replace("BUILDER", str(BUILDER)))
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o LogLevel=ERROR"
        self.environment = {
            "NIX_STORE_DIR": "/nix/store", "HOME": str(self.home), "NIX_REMOTE": f"local?root={self.home}/store",
            "NIX_SSHOPTS": f"-F none -i {bench.write_key()} {options}",
            "NIX_CONFIG": nix_config("experimental-features = nix-command"),
            "PATH": nix_path(which),
        }  # fmt: skip

    async def build(self, name: str) -> str:
        """Outside of the lab's network: this enters it as root in name, and there an older Nix cannot build."""
        argv = ["nix-build", "--no-out-link", str(self.home / "network.nix"), "-A", name]
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=-1, stderr=-1, env={**os.environ, **self.environment}
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode().strip()

    async def copy(self, path: str, address: str, remote_store: str = "") -> None:
        host = f"[{address}]" if ":" in address else address
        await self._run("nix", "copy", "--no-check-sigs", "--to", f"{self.scheme}://root@{host}{remote_store}", path)

    async def _run(self, *argv: str) -> str:
        done = await self.bench.command(argv, **self.environment)
        assert done.status == 0, (argv, done)
        return done.out


@pytest.mark.parametrize("scheme", ["ssh", "ssh-ng"])
@pytest.mark.parametrize("which", NIXES)
def test_a_closure_is_installed_activated_and_updated(play: Play, which: str, scheme: str) -> None:
    async def scenario(bench: Bench) -> None:
        operator = Operator(bench, which, scheme)
        one, two = await operator.build("one"), await operator.build("two")
        hardware = await bench.hardware()
        machine = await bench.power_on(hardware)
        await bench.authorize(machine)
        await bench.must(machine, PARTITION)
        await operator.copy(one, bench.addresses(machine)[1], "?remote-store=local%3Froot=/mnt")
        await bench.must(machine, f"nixos-install --root /mnt --system {one} --no-root-passwd --no-channel-copy")
        await bench.must(
            machine,
            "mkdir -p /mnt/root/.ssh; echo web >/mnt/etc/hostname;"
            f"echo '{bench.public}' >/mnt/root/.ssh/authorized_keys",
        )
        await machine.power_off()

        machine = await bench.power_on(replace(hardware, boot=("scsi0",)))
        address = bench.addresses(machine)[0]
        assert await bench.must(machine, "readlink -f /run/current-system /run/booted-system") == f"{one}\n{one}\n"
        assert await answer(bench, address) == "one /x from web\n"
        await operator.copy(two, address)
        await bench.must(
            machine, f"nix-store --check-validity {two} && nix-env -p /nix/var/nix/profiles/system --set {two}"
        )
        async with await bench.ssh(machine) as connection:
            switched = await connection.run(f"{two}/bin/switch-to-configuration switch")
        assert switched.exit_status == 0, switched
        assert await answer(bench, address) == "two /x from web\n"
        assert await bench.must(machine, "cat /var/log/activations; ls -d /nix/var/nix/profiles/system* | wc -l") == (
            "activated one\nactivated two\n3\n"
        )
        await machine.reset()
        await bench.wait_for_agent(machine)
        assert await answer(bench, address) == "two /x from web\n"

    play(scenario)


async def answer(bench: Bench, address: str) -> str:
    """What the guest's service says, once it listens."""
    host = f"[{address}]" if ":" in address else address
    texts: list[str] = []

    async def says() -> bool:
        done = await bench.command(["curl", "-sf", "--noproxy", "*", "-m", "2", f"http://{host}:8080/x"])
        texts.append(done.out)
        return done.status == 0

    await until(says, lambda: "an answer on port 8080")
    return texts[-1]


def test_a_copy_into_nothing_mounted_is_gone_after_a_reboot(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        operator = Operator(bench)
        one = await operator.build("one")
        machine = await bench.power_on(await bench.hardware())
        await bench.authorize(machine)
        await operator.copy(one, bench.addresses(machine)[0])
        assert (await bench.run(machine, f"nix-store --check-validity {one}")).status == 0
        await machine.reset()
        await bench.wait_for_agent(machine)
        assert (await bench.run(machine, f"nix-store --check-validity {one}")).status != 0

    play(scenario)


def test_the_operators_store_and_the_guests_are_two(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        one = await Operator(bench).build("one")
        machine = await bench.power_on(await bench.hardware())
        assert (await bench.run(machine, f"test -e {one}")).status == 1

    play(scenario)
