"""The network to begin with, as a file or as a flake; and what a cluster offers, in lines. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from nixops_proxmox.messages.amounts import amount
from nixops_proxmox.messages.nix import as_nix
from nixops_proxmox.messages.shapes.setup import OfferJson
from nixops_proxmox.operations.beginning import FIRST, ClusterOffer, FirstChoice
from nixops_proxmox.pve.wire.profiles import DEFAULT
from nixops_proxmox.spelling import Verb, command

STATE_VERSION = "25.11"
_COMMANDS = {"plan": command(Verb.PLAN), "deploy": command(Verb.DEPLOY)}
CONTENTS = {
    "images": "disks",
    "rootdir": "containers",
    "iso": "ISOs",
    "vztmpl": "container templates",
    "import": "images to import",
    "backup": "backups",
    "snippets": "snippets",
}
CHANNEL = f'fetchTarball "https://channels.nixos.org/nixos-{STATE_VERSION}/nixexprs.tar.xz"'
PIN = f"""\
  # Which NixOS: this channel, as it is today. Name a commit's tarball to stay with one.
  network.nixpkgs = {CHANNEL};
"""

FILE = """\
# One machine to begin with. Each machine is a NixOS module; `deployment.proxmox` says what Proxmox VE gives it.
# See what would happen: {plan}. Make it so: {deploy}.
{{
  network.description = "my machines";
{nixpkgs}
  # What all machines have in common.
  defaults = {{
    deployment.proxmox = {{{profile}
      install.iso = {iso};
      install.layout = "ext4"; # how the first disk is laid out
    }};
    system.stateVersion = "{state_version}";
  }};

  {first} = {{
    deployment.proxmox = {{
      memory = 2048; # MiB
      cpu.cores = 2;
      disks = [ {{ storage = {storage}; size = "16G"; }} ];
      network = [ {{ bridge = {bridge}; }} ];
    }};
    services.nginx.enable = true;
    networking.firewall.allowedTCPPorts = [ 80 ];
  }};
}}
"""

FLAKE = """\
{{
  description = "my machines on Proxmox VE";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-{state_version}";

  # See what would happen: {plan}. Make it so: {deploy}.
  outputs = {{ nixpkgs, ... }}: {{
    nixopsConfigurations.default = {{ inherit nixpkgs; }} // import ./machines.nix;
  }};
}}
"""

LAB = """\
# One machine for the lab. Its guests do not run NixOS, so the machine names a small system that stands in for it:
# a shell script answers on a port. See what would happen: {plan}. Make it so: {deploy}.
let
  makeSystem = import {system};
in
{{
  network.description = "my machines";

  {first} = {{
    deployment.proxmox = {{{profile}
      install.iso = {iso};
      memory = 512; # MiB
      cpu.cores = 1;
      disks = [ {{ storage = {storage}; size = "2G"; }} ];
      network = [ {{ bridge = {bridge}; }} ];
    }};
    toplevel = makeSystem {{
      name = "{first}";
      service = {{ port = 80; handler = "echo Hello from {first}"; }};
    }};
  }};
}}
"""


def network_text(choice: FirstChoice, profile: str, *, has_nixpkgs: bool) -> str:
    """`has_nixpkgs`: NIX_PATH or a flake has it. Otherwise the network names it."""
    wanted = f"\n{PIN}"
    return FILE.format(nixpkgs="" if has_nixpkgs else wanted, **_words(choice, profile))


def flake_texts(choice: FirstChoice, profile: str) -> Mapping[str, str]:
    """By file. The machines stand in a file of their own, which is written first: without a flake it is no network."""
    return {
        "machines.nix": network_text(choice, profile, has_nixpkgs=True),
        "flake.nix": FLAKE.format(state_version=STATE_VERSION, **_COMMANDS),
    }


def lab_text(choice: FirstChoice, profile: str, system: str) -> str:
    """`system`: the path of the stand-in for a NixOS system."""
    return LAB.format(system=as_nix(system), **_words(choice, profile))


def _words(choice: FirstChoice, profile: str) -> dict[str, str]:
    named = f"\n      profile = {as_nix(profile)}; # a table of profiles.toml" if profile != DEFAULT else ""
    return {
        "profile": named,
        "iso": as_nix(choice.iso),
        "storage": as_nix(choice.storage),
        "bridge": as_nix(choice.bridge),
        "first": FIRST,
        "state_version": STATE_VERSION,
        **_COMMANDS,
    }


def offer_lines(offer: ClusterOffer) -> Iterator[str]:
    """A few lines: Proxmox VE 8.4; nodes; storages; bridges; installers."""
    nodes = [f"{one.name} ({_memory(one.online, one.memory_free)})" for one in offer.nodes]
    yield f"Proxmox VE {offer.release}"
    yield f"nodes: {', '.join(nodes) or 'none that we see'}"
    for one in offer.storages:
        takes = ", ".join(CONTENTS.get(content, content) for content in one.content)
        yield f"storage {one.name} ({one.kind}): {takes}; {amount(one.free)} free; {_on(one.nodes, offer)}"
    if not offer.storages:
        yield "storages: none that we see"
    yield f"bridges: {_named(offer.bridges, offer) or 'none that we see'}"
    yield f"ISOs: {_named(offer.isos, offer) or 'none that we see'}"


def _memory(online: bool, free: int | None) -> str:  # noqa: FBT001 -- a node's two properties
    return "offline" if not online else "memory unknown" if free is None else f"{amount(free)} of memory free"


def _named(found: Mapping[str, Sequence[str]], offer: ClusterOffer) -> str:
    """`vmbr0, vmbr1 on each node; vmbr2 on pve1`: those together that are on the same nodes."""
    places: dict[str, list[str]] = {}
    for name, nodes in found.items():
        places.setdefault(_on(nodes, offer), []).append(name)
    return "; ".join(f"{', '.join(names)} {place}" for place, names in places.items())


def _on(nodes: Sequence[str], offer: ClusterOffer) -> str:
    online = [one.name for one in offer.nodes if one.online]
    return "on each node" if len(online) > 1 and set(online) <= set(nodes) else f"on {', '.join(nodes)}"


def offer_json(offer: ClusterOffer) -> OfferJson:
    return {
        "pve": offer.release,
        "nodes": [{"name": one.name, "online": one.online, "memoryFree": one.memory_free} for one in offer.nodes],
        "storages": [
            {"name": one.name, "type": one.kind, "content": [*one.content], "nodes": [*one.nodes], "free": one.free}
            for one in offer.storages
        ],
        "bridges": {name: [*nodes] for name, nodes in offer.bridges.items()},
        "isos": {name: [*nodes] for name, nodes in offer.isos.items()},
    }
