"""What we tell cloud-init, read by a real one, and given to each program that sets up a network."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.kinds.machine.first_boot import first_disc
from nixops_proxmox.spec import IpSpec, MachineSpec, Nic
from tests.kinds.machine.test_first_boot import MACHINE, UUID, files_of
from tests.pace import patience

PYTHON = Path("/usr/bin/python3")  # Debian's, which its packages are for
DRIVER = r"""
import json, pathlib, shutil, sys
from cloudinit import helpers, safeyaml
from cloudinit.config.schema import get_schema, validate_cloudconfig_schema
from cloudinit.distros import rhel
from cloudinit.net import eni, netplan, network_manager, networkd, sysconfig
from cloudinit.net.network_state import parse_net_config_data
from cloudinit.sources import DataSourceNoCloud

out = pathlib.Path(sys.argv[1])
seed = out / "cloud" / "seed" / "nocloud"
config = safeyaml.load((seed / "user-data").read_text())
validate_cloudconfig_schema(config, get_schema(), strict=True)
paths = helpers.Paths({"cloud_dir": str(out / "cloud"), "run_dir": str(out / "run")})
source = DataSourceNoCloud.DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, None, paths)
taken = source.get_data()
renderers = {
    "ifupdown": eni.Renderer({"eni_path": "etc/network/interfaces", "netrules_path": "rules"}),
    "netplan": netplan.Renderer({"netplan_path": "etc/netplan.yaml"}),
    "sysconfig": sysconfig.Renderer(rhel.Distro.renderer_configs["sysconfig"]),
    "networkd": networkd.Renderer({"network_conf_dir": "/etc/systemd/network/"}),
    "NetworkManager": network_manager.Renderer({}),
}
files = {}
for name, renderer in renderers.items():
    target = out / name
    target.mkdir()
    state = parse_net_config_data(source.network_config, renderer=renderer)
    renderer.render_network_state(state, target=str(target))
    files[name] = "\n".join(path.read_text() for path in sorted(target.rglob("*")) if path.is_file())
user = next(one for one in safeyaml.load(source.userdata_raw)["users"] if one != "default")
known = {"taken": taken, "id": source.get_instance_id(), "name": source.metadata["local-hostname"], "user": user}
json.dump({**known, "keys": config["ssh_keys"], "files": files}, sys.stdout)
"""
STATIC = Nic.model_validate(
    {
        "slot": "net1",
        "bridge": "vmbr1",
        "ipv4": IpSpec.model_validate({"method": "static", "address": "10.0.0.2", "prefix": 24, "gateway": "10.0.0.1"}),
        "ipv6": IpSpec.model_validate({"method": "static", "address": "fd00::2", "prefix": 64, "gateway": "fd00::1"}),
        "dns": ("10.0.0.53",),
        "search": ("example.org",),
    }
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    packages = Path(os.environ.get("NIXOPS_PROXMOX_TEST_CLOUD_INIT", "/nowhere")) / "usr/lib/python3/dist-packages"
    if not (packages / "cloudinit").is_dir() or not PYTHON.exists():
        pytest.skip("there is no cloud-init to ask (scripts/test unpacks Debian's)")
    out = tmp_path_factory.mktemp("told")
    seed = out / "cloud" / "seed" / "nocloud"
    seed.mkdir(parents=True)
    spec = MachineSpec(name="web", network=(Nic(slot="net0", bridge="vmbr0"), STATIC))
    disc = first_disc(MACHINE, spec, "PRIVATE\n", "ssh-ed25519 AAAA", ["ssh-ed25519 BBBB me"])
    for name, content in files_of(disc).items():
        (seed / name).write_bytes(content)
    env = {**os.environ, "PYTHONPATH": str(packages)}
    env.pop("VIRTUAL_ENV", None)
    done = subprocess.run(
        [PYTHON, "-c", DRIVER, out], env=env, capture_output=True, text=True, check=False, timeout=patience(60)
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_it_takes_the_cd_for_its_own_and_knows_the_machine(told: dict[str, Any]) -> None:
    assert told["taken"] and (told["id"], told["name"]) == (UUID, "web")
    assert told["user"] == {"name": "root", "ssh_authorized_keys": ["ssh-ed25519 BBBB me"]}
    assert told["keys"] == {"ed25519_private": "PRIVATE\n", "ed25519_public": "ssh-ed25519 AAAA\n"}


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("ifupdown", ["iface eth0 inet dhcp", "address 10.0.0.2/24", "gw 10.0.0.1", "address fd00::2/64"]),
        ("netplan", ["dhcp4: true", "- 10.0.0.2/24", "- fd00::2/64", "via: 10.0.0.1", "via: fd00::1", "- 10.0.0.53"]),
        (
            "sysconfig",
            ["BOOTPROTO=dhcp", "IPADDR=10.0.0.2", "GATEWAY=10.0.0.1", "IPV6ADDR=fd00::2/64", "DNS1=10.0.0.53"],
        ),
        ("networkd", ["DHCP=ipv4", "Address=10.0.0.2/24", "Address=fd00::2/64", "Gateway=fd00::1", "DNS=10.0.0.53"]),
        ("NetworkManager", ["method=auto", "=10.0.0.2/24", "=fd00::2/64", "10.0.0.1", "fd00::1", "dns=10.0.0.53"]),
    ],
)
def test_each_program_gets_every_address_and_knows_the_nics_by_their_macs(
    told: dict[str, Any], program: str, said: list[str]
) -> None:
    written = told["files"][program]
    for text in said:
        assert text in written
    for mac in MACHINE.facts.macs:
        assert mac.lower() in written.lower()
