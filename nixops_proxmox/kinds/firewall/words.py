"""From a description's words for addresses to PVE's: names are filled in with what is known now."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.resource import Setting
from nixops_proxmox.model import Machine, Phase
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.firewall import AddressAlias, IpSet, Word, parse_word
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.virtual_network import VirtualNetwork

LONGEST = 500  # characters of a list of addresses; PVE takes 512


@dataclass(frozen=True)
class Neighbourhood:
    """What words may name. A machine that does not exist has no addresses, whatever is described."""

    machines: Sequence[Machine] = ()
    specs: Sequence[MachineSpec] = ()
    resources: Sequence[ResourceSpec] = ()

    @classmethod
    def of(cls, setting: Setting | None) -> "Neighbourhood":
        if setting is None:
            return cls()
        network = setting.network
        described = ((), setting.made()) if network is None else (network.machines, network.resources)
        return cls(setting.machines(), *described)

    def addresses_of(self, machine: str) -> Iterator[str]:
        """The addresses of its NICs: what the guest said, and what the description says. No link-local ones."""
        record = next((one for one in self.machines if one.name == machine and one.phase is not Phase.ABSENT), None)
        if record is None:
            return
        seen = {one.ip for one in record.facts.addresses if one.mac in record.facts.macs}
        spec = next((one for one in self.specs if one.name == machine), None)
        said = {address for nic in (spec.network if spec else ()) for address in nic.addresses}
        yield from (str(ip) for ip in sorted({*seen, *said}, key=_order) if not ip.is_link_local)

    def tagged(self, tag: str) -> list[str]:
        return [spec.name for spec in self.specs if tag.lower() in spec.tags]

    def texts(self, word: Word) -> list[str]:
        """As PVE takes them; nothing: there is no address yet."""
        match word.kind:
            case "machine":
                return list(self.addresses_of(word.name))
            case "tag":
                return [text for name in self.tagged(word.name) for text in self.addresses_of(name)]
            case "network":
                spec = self._find(VirtualNetwork, word.name)
                return [str(spec.subnet)] if isinstance(spec, VirtualNetwork) and spec.subnet else []
            case "set":
                return [f"+{self._pve_name(IpSet, word.name)}"]
            case "alias":
                return [self._pve_name(AddressAlias, word.name)]
            case _:
                return [word.name]

    def _find(self, model: type[ResourceSpec], name: str) -> ResourceSpec | None:
        return next((one for one in self.resources if isinstance(one, model) and one.name == name), None)

    def _pve_name(self, model: type[ResourceSpec], name: str) -> str:
        """StateError where the description is needed, and there is none."""
        spec = self._find(model, name)
        if not isinstance(spec, IpSet | AddressAlias):
            raise StateError(f"resources.{model.option}.{name} is named, and not described", hint="describe it again")
        return spec.pve_name


def _order(ip: IPv4Address | IPv6Address) -> tuple[int, int]:
    return ip.version, int(ip)


def fields_of(words: Iterable[str], around: Neighbourhood) -> list[str]:
    """What one field of a rule can be, so that together they are all that the words say: PVE takes one set, one alias,
    one range, or addresses of one family. Nothing: no word has an address now."""
    alone: list[str] = []
    addresses: dict[int, list[str]] = {4: [], 6: []}
    for text in dict.fromkeys(text for word in words for text in around.texts(parse_word(word))):
        network = _network(text)
        if network is None:
            alone.append(text)
        else:
            addresses[network.version].append(text)
    return [*(part for family in (4, 6) for part in _joined(addresses[family])), *alone]


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _joined(texts: Sequence[str]) -> Iterator[str]:
    """In lists that are not too long."""
    part = ""
    for text in texts:
        if part and len(part) + len(text) >= LONGEST:
            yield part
            part = ""
        part = f"{part},{text}" if part else text
    if part:
        yield part


def family_of(field: str) -> int:
    """4 or 6; 0: a set, an alias or a range."""
    network = _network(field.partition(",")[0])
    return 0 if network is None else network.version
