"""What a description may say, and what comes of it."""

from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import (
    Disk,
    Efi,
    InstallMethod,
    InstallSource,
    InstallSpec,
    MachineSpec,
    parse_machine,
    parse_network,
)
from tests.spec.build import machine, mistakes, network, options, refusal, refusal_of

GIB = 1 << 30


def test_what_is_not_said_is_left_alone() -> None:
    spec = machine()
    assert spec == MachineSpec(
        name="web",
        disks=(Disk(slot="scsi0", storage="local-lvm", size=8 * GIB),),
        network=spec.network,
    )
    assert (spec.memory, spec.cpu.cores, spec.onboot, spec.bios, spec.disks[0].discard) == (None,) * 5


def test_null_is_the_same_as_not_said() -> None:
    nothing = {"memory": None, "vmid": None, "cpu": {"cores": None}, "efi": None, "profile": None, "tags": None}
    assert machine(**nothing) == machine()


def test_a_specification_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        machine().memory = 3


def test_every_option_is_taken_over() -> None:
    spec = machine(
        profile="office",
        node="pve2",
        placement={"nodes": ["pve1", "pve2"], "spread": "web", "together": "shop", "strict": True},
        vmid=142,
        cpu={"type": "host", "sockets": 2, "cores": 4, "limit": 1.5, "units": 200, "numa": True},
        memory=2048,
        balloon=512,
        efi={"storage": "local", "secureBootKeys": True},
        tpm={"storage": "local"},
        machine="q35",
        scsiController="virtio-scsi-single",
        display="serial0",
        serialPort=False,
        tags=["Prod", "web"],
        pool="team/web",
        onboot=True,
        startup="order=2,up=30",
        protection=True,
        hotplug="network,disk",
        description="the web server",
        extra={"acpi": 1, "hostpci0": "mapping=gpu", "tablet": False},
        install={"from": "template", "template": 9000, "fullClone": True, "method": "configuration", "generation": 3},
        endpoint={
            "families": ["ipv4"],
            "allow": ["10.0.0.0/8", "fd00::/8"],
            "denyInterfaces": ["wg*", "!tailscale0"],
            "jump": "admin@gate:2222",
        },
        ssh={"user": "deploy", "port": 2022, "options": {"ConnectTimeout": 5, "Compression": True}},
    )
    assert (spec.profile, spec.node, spec.vmid, spec.cpu.limit, spec.balloon) == ("office", "pve2", 142, 1.5, 512)
    assert spec.efi == Efi(storage="local", type="4m", secure_boot_keys=True)
    assert spec.bios == "ovmf", "an EFI disk implies the firmware that uses it"
    assert spec.tags == ("prod", "web"), "PVE lower-cases tags"
    assert spec.extra == {"acpi": 1, "hostpci0": "mapping=gpu", "tablet": False}
    assert spec.install == InstallSpec(
        source=InstallSource.TEMPLATE,
        template="9000",
        full_clone=True,
        method=InstallMethod.CONFIGURATION,
        asked=3,
    )
    assert [str(net) for net in spec.endpoint.allow] == ["10.0.0.0/8", "fd00::/8"]
    assert spec.ssh.options == {"ConnectTimeout": "5", "Compression": "yes"}
    assert spec.agent and not machine(agent=False).agent


@pytest.mark.parametrize("entry", [{"deployment": {"proxmox": options()}}, {"proxmox": options()}])
def test_a_machine_may_come_with_or_without_its_deployment(entry: dict[str, Any]) -> None:
    assert parse_machine("web", entry) == machine()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (8, 8 * GIB), ("8", 8 * GIB), ("8G", 8 * GIB), ("8GiB", 8 * GIB), ("8 GB", 8 * GIB), ("512M", 512 << 20),
        ("1.5T", 3 << 39), ("4.5G", 9 << 29), ("2097152k", 2 << 30),
    ],
)  # fmt: skip
def test_sizes_are_gibibytes_or_say_their_unit(size: int | str, expected: int) -> None:
    assert machine(disks=[{"storage": "local-lvm", "size": size}]).disks[0].size == expected


@pytest.mark.parametrize("size", [True, 1.5, "8X", "", "-8G", "8 8", [], {}, "1e3G", "٣", "0.0001K", 0, "1K", 1 << 40])
def test_other_sizes_are_refused(size: Any) -> None:
    assert list(mistakes(disks=[{"storage": "local-lvm", "size": size}])) == ["disks[0].size"]


def test_memory_is_mebibytes_or_says_its_unit() -> None:
    assert machine(memory="2G").memory == machine(memory=2048).memory == 2048
    assert mistakes(memory="100K") == {"memory": 'expected a size in whole MiB, got "100K"'}


def test_listed_disks_count_up_on_their_bus_past_slots_that_are_asked_for() -> None:
    buses: list[dict[str, Any]] = [{}, {"bus": "virtio"}, {"slot": "scsi1"}, {}, {"bus": "virtio"}, {"bus": "sata"}]
    spec = machine(disks=[{"storage": "local-lvm", "size": 1, **bus} for bus in buses])
    assert [disk.slot for disk in spec.disks] == ["scsi0", "virtio0", "scsi1", "scsi2", "virtio1", "sata0"]


def test_disks_by_slot_are_in_the_order_of_their_numbers() -> None:
    disk = {"storage": "local-lvm", "size": 1}
    spec = machine(disks={"scsi10": disk, "scsi2": disk, "virtio0": disk}, network={"net1": {"bridge": "vmbr1"}})
    assert [d.slot for d in spec.disks] == ["scsi2", "scsi10", "virtio0"]
    assert [n.slot for n in spec.network] == ["net1"]


@pytest.mark.parametrize(("bus", "count"), [("scsi", 31), ("virtio", 16), ("sata", 6)])
def test_a_bus_has_as_many_slots_as_pve_gives_it(bus: str, count: int) -> None:
    disk = {"storage": "local-lvm", "size": 1, "bus": bus}
    assert machine(disks=[disk] * count).disks[-1].slot == f"{bus}{count - 1}"
    assert "no free slot" in mistakes(disks=[disk] * (count + 1))[f"disks[{count}]"]


@pytest.mark.parametrize(
    ("written", "method", "address", "prefix", "gateway"),
    [
        ("dhcp", "dhcp", None, None, None),
        ("none", "none", None, None, None),
        ("10.0.0.2/24", "static", "10.0.0.2", 24, None),
        ({"address": "10.0.0.2", "prefix": 24}, "static", "10.0.0.2", 24, None),
        ({"address": "10.0.0.2/24", "gateway": "10.0.0.1"}, "static", "10.0.0.2", 24, "10.0.0.1"),
        ({"method": "static", "address": "10.0.0.2", "prefix": 24}, "static", "10.0.0.2", 24, None),
        ({"address": "203.0.113.9/32", "gateway": "172.31.1.1"}, "static", "203.0.113.9", 32, "172.31.1.1"),
        ({"address": "dhcp", "prefixLength": None}, "dhcp", None, None, None),
        ({"address": "10.0.0.2", "prefixLength": "24"}, "static", "10.0.0.2", 24, None),
        ({}, "dhcp", None, None, None),
    ],
)
def test_an_address_may_be_written_in_several_ways(
    written: Any, method: str, address: str | None, prefix: int | None, gateway: str | None
) -> None:
    ip = machine(network=[{"bridge": "vmbr0", "ipv4": written}]).network[0].ipv4
    assert ip.method == method
    assert ip.address == (ip_address(address) if address else None)
    assert (ip.prefix, ip.gateway) == (prefix, ip_address(gateway) if gateway else None)


def test_ipv6_may_be_static_with_a_link_local_gateway() -> None:
    ip = machine(network=[{"bridge": "vmbr0", "ipv6": {"address": "fd00::2/64", "gateway": "fe80::1"}}]).network[0].ipv6
    assert (str(ip.address), ip.prefix, str(ip.gateway)) == ("fd00::2", 64, "fe80::1")


@pytest.mark.parametrize(
    ("family", "written", "said"),
    [
        ("ipv4", "auto", 'IPv4 has no "auto"'),
        ("ipv4", "10.0.0.2", "needs its prefix"),
        ("ipv4", {"method": "static", "prefix": 24}, "needs its address"),
        ("ipv4", "10.0.0.2/33", "from 0 to 32"),
        ("ipv4", "10.0.0.2/a", "an integer"),
        ("ipv4", "fd00::2/64", "IPv4 addresses"),
        ("ipv6", "10.0.0.2/24", "IPv6 addresses"),
        ("ipv4", "10.0.0.0/24", "the network's own address"),
        ("ipv4", "10.0.0.255/24", "broadcast"),
        ("ipv4", "127.0.0.1/8", "cannot be a machine's address"),
        ("ipv6", "ff02::1/64", "cannot be a machine's address"),
        ("ipv4", {"address": "10.0.0.2/24", "gateway": "10.0.1.1"}, "not in 10.0.0.0/24"),
        ("ipv4", {"address": "10.0.0.2/24", "gateway": "10.0.0.2"}, "own address"),
        ("ipv4", {"method": "dhcp", "gateway": "10.0.0.1"}, "no meaning with the method dhcp"),
        ("ipv4", {"method": "dhcp", "address": "10.0.0.7/24"}, "no meaning with the method dhcp"),
        ("ipv4", {"method": "dhcp", "address": "fd00::7"}, "expected an IPv4 address, got fd00::7"),
        ("ipv6", {"method": "auto", "address": "fd00::7"}, "no meaning with the method auto"),
        ("ipv4", {"adress": "10.0.0.2/24"}, "did you mean address?"),
        ("ipv4", 7, "attribute set"),
        ("ipv6", "fe80::1%eth0/64", "IPv4 or IPv6 address"),
    ],
)
def test_an_address_that_cannot_be_is_refused(family: str, written: Any, said: str) -> None:
    found = mistakes(network=[{"bridge": "vmbr0", family: written}])
    assert len(found) == 1
    path, text = found.popitem()
    assert path.startswith(f"network[0].{family}")
    assert said in text


@pytest.mark.parametrize(
    ("written", "path", "said"),
    [
        ({"memory": 8, "balloon": 4}, "memory", "at least 16"),
        ({"memory": 512, "balloon": 1024}, "balloon", "at most the memory, 512 MiB, got 1024"),
        ({"efi": {"storage": "local"}, "bios": "seabios"}, "bios", "needs ovmf"),
        ({"efi": {}}, "efi.storage", "must be set"),
        ({"vmid": 99}, "vmid", "at least 100, got 99"),
        ({"vmid": "142"}, "vmid", 'an integer, got "142"'),
        ({"tags": ["a b"]}, "tags[0]", "a tag"),
        ({"tags": ["A", "a"]}, "tags", "each value once"),
        ({"node": "pve_1"}, "node", "the name of a node"),
        ({"startup": "soon"}, "startup", "order=1"),
        ({"hotplug": "network,dsik"}, "hotplug", "network,disk,usb"),
        ({"scsiController": "virtio-scsi-singel"}, "scsiController", "did you mean virtio-scsi-single?"),
        ({"description": "é" * 4000}, "description", "at most 7 KiB"),
        ({"disks": []}, "disks", "at least one disk"),
        ({"disks": 3}, "disks", "a list, or an attribute set by slot"),
        ({"network": []}, "network", "at least one NIC"),
        ({"install": {"from": "image"}}, "install.image", "must be set"),
        ({"install": {"from": "template", "template": 9000}, "agent": False}, "agent", "through the guest agent"),
        ({"install": {"fullClone": True}}, "install.fullClone", "no meaning"),
        ({"install": {"layout": "lvm", "partition": "true"}}, "install.layout", "give one"),
        ({"install": {"layout": "lvm", "from": "image", "image": "a:import/b.qcow2"}}, "install.layout", "no meaning"),
        ({"install": {"layout": "ext3"}}, "install.layout", "ext4"),
        ({"install": {"configuration": "{ }"}}, "install.configuration", "no meaning"),
        ({"install": {"iso": "installer.iso"}}, "install.iso", "local:iso/installer.iso"),
        ({"install": {"generation": -1}}, "install.generation", "at least 0"),
        ({"deploy": {"probation": -1}}, "deploy.probation", "at least 0"),
        ({"deploy": {"copying": {"cache": {"push": "s3://c"}}}}, "deploy.copying.cache.url", ""),
        ({"deploy": {"copying": {"cache": {"push": "ftp://c", "url": "s3://c"}}}}, "deploy.copying.cache.push", "s3:"),
        (
            {"deploy": {"copying": {"cache": {"push": "s3://c", "url": "https://me:word@c"}}}},
            "deploy.copying.cache.url",
            "without a password",
        ),
        ({"deploy": {"snapshot": True, "probation": 0}}, "deploy.snapshot", "needs deploy.probation"),
        ({"deploy": {"snapshot": True}, "volumes": ["data"]}, "deploy.snapshot", "cannot be with volumes"),
        ({"deploy": {"failedUnits": "ignore"}}, "deploy.failedUnits", "revert or accept"),
        ({"deploy": {"health": {"units": ["a b"]}}}, "deploy.health.units[0]", "a unit such as"),
        ({"deploy": {"strategy": {"batch": 0}}}, "deploy.strategy.batch", "a number of machines, or a percentage"),
        ({"deploy": {"strategy": {"batch": "101%"}}}, "deploy.strategy.batch", "a number of machines, or a percentage"),
        ({"deploy": {"strategy": {"maxFailures": -1}}}, "deploy.strategy.maxFailures", "at least 0"),
        ({"deploy": {"hooks": {"before": []}}}, "deploy.hooks.before", "at least one value"),
        ({"deploy": {"hooks": {"timeout": 0}}}, "deploy.hooks.timeout", "at least 1"),
        ({"deploy": {"health": {"tcp": [0]}}}, "deploy.health.tcp[0]", "at least 1"),
        ({"deploy": {"health": {"http": {}}}}, "deploy.health.http", "a list of requests"),
        ({"deploy": {"health": {"http": [{"path": "x"}]}}}, "deploy.health.http[0].path", "a path such as"),
        ({"deploy": {"health": {"http": [{"path": "/a\r\nX: y"}]}}}, "deploy.health.http[0].path", "a path such as"),
        ({"deploy": {"health": {"http": [{"port": 1 << 16}]}}}, "deploy.health.http[0].port", "at most 65535"),
        ({"endpoint": {"families": []}}, "endpoint.families", "at least one value"),
        ({"endpoint": {"families": ["ipv5"]}}, "endpoint.families[0]", "ipv4 or ipv6"),
        ({"endpoint": {"deny": ["10.0.0.1/8"]}}, "endpoint.deny[0]", "host bits"),
        ({"endpoint": {"jump": "-oProxyCommand=x"}}, "endpoint.jump", "a jump host"),
        ({"ssh": {"options": {"stricthostkeychecking": "no"}}}, "ssh.options.stricthostkeychecking", "is pinned"),
        ({"ssh": {"options": {"Port": 22}}}, "ssh.options.Port", "is set by the option port"),
        ({"ssh": {"options": {"LogLevel": "a\nb"}}}, "ssh.options.LogLevel", "one line"),
        ({"ssh": {"hostKey": "etc/key"}}, "ssh.hostKey", "the absolute path of a file"),
        ({"ssh": {"hostKey": "/run/key"}}, "ssh.hostKey", "/run is no place for a file that stays"),
        (
            {"ssh": {"hostKey": "/p"}, "install": {"from": "image", "image": "a:import/b", "identity": "cloud-init"}},
            "ssh.hostKey",
            "cloud-init puts the host key at",
        ),
        ({"ssh": {"identityFile": "/nix/store/abc-key"}}, "ssh.identityFile", "must not be in the Nix store"),
        ({"ssh": {"authorizedKeys": ["hello"]}}, "ssh.authorizedKeys[0]", "a public SSH key"),
        ({"serverUrl": "http://pve:8006"}, "serverUrl", "https://host:8006"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_at_its_place(written: dict[str, Any], path: str, said: str) -> None:
    found = mistakes(**written)
    assert list(found) == [path]
    assert said in found[path]


@pytest.mark.parametrize(
    ("disk", "path", "said"),
    [
        ({"slot": "scsi31"}, "slot", "scsi0 to scsi30"),
        ({"slot": "scsi0", "bus": "virtio"}, "bus", 'the slot is "scsi0"'),
        ({"bus": "scis"}, "bus", "did you mean scsi?"),
        ({"serial": "x" * 21}, "serial", "1 to 20"),
        ({"serial": "a/b"}, "serial", "1 to 20"),
        ({"bus": "sata", "iothread": True}, "iothread", "sata disks have none"),
        ({"bus": "virtio", "ssd": True}, "ssd", "cannot look like SSDs"),
        ({"aio": "native", "cache": "writeback"}, "aio", "needs the cache none"),
        ({"aio": "threadz"}, "aio", "did you mean threads?"),
        ({"storage": "a b"}, "storage", "the name of a storage"),
        ({"volume": "other"}, "volume", "the old name of web.deployment.proxmox.disks[0].storage"),
    ],
)
def test_a_disk_that_cannot_be_is_refused_at_its_place(disk: dict[str, Any], path: str, said: str) -> None:
    found = mistakes(disks=[{"storage": "local-lvm", "size": 8, **disk}])
    assert list(found) == [f"disks[0].{path}"]
    assert said in found[f"disks[0].{path}"]


@pytest.mark.parametrize(
    ("nic", "path", "said"),
    [
        ({"mac": "01:00:5E:00:00:01"}, "mac", "unicast"),
        ({"mac": "bc:24:11:00:00"}, "mac", "a MAC address"),
        ({"tag": 0}, "tag", "at least 1"),
        ({"tag": 4095}, "tag", "at most 4094"),
        ({"trunks": [5000]}, "trunks[0]", "a VLAN"),
        ({"trunks": ["7-5"]}, "trunks[0]", "a VLAN"),
        ({"model": "virtoi"}, "model", "did you mean virtio?"),
        ({"model": "e1000", "mtu": 1400}, "mtu", "needs the model virtio"),
        ({"mtu": 60}, "mtu", "576"),
        ({"queues": 65}, "queues", "at most 64"),
        ({"rate": -1}, "rate", "at least 0"),
    ],
)
def test_a_nic_that_cannot_be_is_refused_at_its_place(nic: dict[str, Any], path: str, said: str) -> None:
    found = mistakes(network=[{"bridge": "vmbr0", **nic}])
    assert list(found) == [f"network[0].{path}"]
    assert said in found[f"network[0].{path}"]


def test_trunks_may_be_numbers_and_ranges() -> None:
    assert machine(network=[{"bridge": "vmbr0", "trunks": [100, "5-7"]}]).network[0].trunks == ("100", "5-7")


def test_macs_are_written_in_one_way() -> None:
    assert machine(network=[{"bridge": "vmbr0", "mac": "bc:24:11:0a:00:01"}]).network[0].mac == "BC:24:11:0A:00:01"


def test_a_template_brings_its_own_disks_and_nics() -> None:
    assert not machine(disks=[], network=[], install={"from": "template", "template": "base"}).disks


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("memory", "is set by the option memory"),
        ("net3", "is set by the option network"),
        ("ide2", "is set by the option install.iso"),
        ("smbios1", "the mark"),
        ("hookscript", "only root@pam"),
        ("start", "it is a request to PVE"),
        ("cipassword", "a secret"),
        ("acip", "did you mean acpi?"),
        ("usb14", "usb goes from 0 to 13"),
        ("usb01", "usb goes from 0 to 13"),
        ("scsi31", "is set by the option disks"),
        ("net", "is not a key of PVE's VM configuration"),
    ],
)
def test_extra_takes_only_what_no_option_says(key: str, said: str) -> None:
    assert said in mistakes(extra={key: 1})[f"extra.{key}"]


def test_the_values_of_extra_are_not_repeated() -> None:
    assert "hunter2" not in str(refusal(extra={"sshkeys": ["hunter2"], "citype": "", "acip": "hunter2"}))


@pytest.mark.parametrize("name", ["password", "tokenValue", "token", "otp"])
def test_secrets_are_refused_with_where_they_belong(name: str) -> None:
    error = refusal(**{name: "hunter2"})
    assert str(error) == f"web.deployment.proxmox.{name}: is a secret, and secrets cannot be options"
    assert "profile file" in error.hint
    assert "hunter2" not in str(error) + error.hint


def test_credentials_in_the_url_are_not_repeated() -> None:
    assert "hunter2" not in str(refusal(serverUrl="https://root:hunter2@pve:8006"))


def test_the_nearest_name_is_told_for_one_that_is_unknown() -> None:
    found = mistakes(memorry=1, cpu={"core": 1}, ssh={"prot": 1}, zzz=1)
    assert found == {
        "memorry": "there is no such option (did you mean memory?)",
        "cpu.core": "there is no such option (did you mean cores?)",
        "ssh.prot": "there is no such option (did you mean port?)",
        "zzz": "there is no such option",
    }


def test_all_mistakes_are_told_at_once_one_on_a_line() -> None:
    with pytest.raises(SpecError) as caught:
        network({"web": {"memory": "x"}, "app": {"vmid": 5, "tags": 7}, "db": {}})
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "web.deployment.proxmox.memory",
        "app.deployment.proxmox.vmid",
        "app.deployment.proxmox.tags",
    ]
    assert caught.value.path == "web.deployment.proxmox.memory"
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("name", ["web_1", "-web", "web-", "a" * 64, "", "wéb", "a..b"])
def test_a_machine_is_named_as_dns_names_it(name: str) -> None:
    with pytest.raises(SpecError, match="expected a DNS name"):
        network({name: {}})
    assert network({"web-1.example.org": {}}).machines[0].name == "web-1.example.org"


def test_two_machines_cannot_have_one_vmid_on_a_hypervisor() -> None:
    with pytest.raises(SpecError, match=r"^web\.deployment\.proxmox\.vmid: 142 is the VMID of app already$"):
        network({"app": {"vmid": 142}, "web": {"vmid": 142}})
    assert len(network({"app": {"vmid": 142}, "web": {"vmid": 142, "profile": "office"}}).machines) == 2


def test_two_nics_cannot_have_one_mac() -> None:
    nics = {"network": [{"bridge": "vmbr0", "mac": "bc:24:11:00:00:01"}]}
    again = {"network": [{"bridge": "vmbr0", "mac": "BC:24:11:00:00:01"}]}
    with pytest.raises(SpecError, match=r"^web\.deployment\.proxmox\.network: web\.net0 has the MAC .* of app\.net0$"):
        network({"app": nics, "web": again})


def test_two_disks_of_a_machine_cannot_have_one_serial() -> None:
    disk = {"storage": "local-lvm", "size": 8, "serial": "data"}
    assert mistakes(disks=[disk, disk]) == {"disks": "scsi0 and scsi1 have the same serial, data"}


def test_a_slot_is_taken_once() -> None:
    disk = {"storage": "local-lvm", "size": 8, "slot": "scsi3"}
    assert mistakes(disks=[disk, disk])["disks[1].slot"] == 'the slot "scsi3" is taken by an earlier entry of the list'


def test_machines_of_other_backends_are_left_out_and_named() -> None:
    entries = {
        "web": {"deployment": {"targetEnv": "proxmox", "proxmox": options()}},
        "old": {"deployment": {"targetEnv": "libvirtd"}},
    }
    parsed = parse_network("demo", {"network": {"description": "two"}, "machines": entries})
    assert ([m.name for m in parsed.machines], parsed.foreign, parsed.description) == (["web"], ("old",), "two")


@pytest.mark.parametrize("data", [{}, {"machines": []}, {"machines": None}, [], None, 3, "x"])
def test_what_is_no_network_is_refused(data: Any) -> None:
    with pytest.raises(SpecError, match="expected a network"):
        parse_network("demo", data)


@pytest.mark.parametrize("entry", [{}, {"deployment": {}}, None, [], {"deployment": {"proxmox": None}}, 3])
def test_a_machine_that_says_nothing_is_refused(entry: Any) -> None:
    assert str(refusal_of(entry)) == "web.deployment.proxmox: is not set: describe the machine here"


def test_what_the_module_says_about_the_guest_is_none_of_the_specs_business() -> None:
    assert machine(guest={"network": {"enable": True}}) == machine()
