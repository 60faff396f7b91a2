"""Jump hosts as the user's own SSH configuration means them: aliases and options, told by `ssh -G`.

What our own connections cannot do is refused by name, so that no jump host is taken in another way than by ssh.
"""

import os
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nixops_proxmox.errors import SshRefused
from nixops_proxmox.paths import expanded
from nixops_proxmox.ssh.argv import Hop, canonical_host, parse_jump

LOOK_TIME = 20.0  # seconds; `Match exec` in the user's configuration may take its time
_NOTHING = {
    "proxyjump": ("none",),
    "proxycommand": ("none",),
    "knownhostscommand": ("none",),
    "revokedhostkeys": ("none",),
    "certificatefile": ("none",),
    "identityagent": ("none", "SSH_AUTH_SOCK", "$SSH_AUTH_SOCK"),
    "pkcs11provider": ("none",),
}
_DEFAULT_KEYS = frozenset(
    f"~/.ssh/id_{kind}"
    for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa", "mldsa44_ed25519")
)
_DEFAULT_USER_FILES = ("/.ssh/known_hosts", "/.ssh/known_hosts2")
_DEFAULT_GLOBAL_FILES = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]


def resolve_jump(text: str, config: Path | None = None) -> tuple[Hop, ...]:
    """The jump hosts of an OpenSSH ProxyJump; `config`: instead of the user's and the system's configuration."""
    return tuple(resolve(hop, config) for hop in parse_jump(text))


def resolve(hop: Hop, config: Path | None = None) -> Hop:
    """SshRefused where the configuration asks for what cannot be done."""
    said = _ask_ssh(hop, config)
    if not said:
        return hop
    for name, plain in _NOTHING.items():
        value = " ".join(said.get(name, ["none"]))
        if value not in plain:
            raise SshRefused(
                f"jump host {hop.host}: the SSH configuration gives it {name} ({value}), which is not supported here",
                hint="name every jump host in endpoint.jump (a,b), or write a Host entry without that option",
            )
    keys = [expanded(name) for name in said.get("identityfile", []) if name not in _DEFAULT_KEYS]
    return replace(
        hop,
        host=canonical_host(said["hostname"][0]),
        port=int(said["port"][0]),
        user=said["user"][0],
        alias=said.get("hostkeyalias", [""])[0],
        known_hosts=_known_hosts(said),
        identity=next((key for key in keys if key.exists()), None),
        only_identity=said.get("identitiesonly") == ["yes"],
    )


def _known_hosts(said: Mapping[str, Sequence[str]]) -> tuple[Path, ...]:
    """The files that the configuration names; empty for ssh's own defaults."""
    users = " ".join(said.get("userknownhostsfile", [])).split()
    systems = " ".join(said.get("globalknownhostsfile", [])).split()
    plain = len(users) == len(_DEFAULT_USER_FILES) and all(map(str.endswith, users, _DEFAULT_USER_FILES))
    if plain and systems == _DEFAULT_GLOBAL_FILES:
        return ()
    return tuple(expanded(name) for name in (*users, *systems) if name not in ("none", "/dev/null"))


def _ask_ssh(hop: Hop, config: Path | None) -> Mapping[str, list[str]]:
    """What `ssh -G` says of the host; nothing without an ssh."""
    argv = ["ssh", *(["-F", str(config)] if config else []), "-T", "-G"]
    argv += ["-l", hop.user] if hop.user else []
    argv += ["-p", str(hop.port)] if hop.port_given else []
    try:
        done = subprocess.run(
            [*argv, "--", hop.host], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOOK_TIME,
            env={**os.environ, "LC_ALL": "C"}, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return {}
    except subprocess.TimeoutExpired as error:
        raise SshRefused(f"jump host {hop.host}: `ssh -G` did not answer within {LOOK_TIME:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise SshRefused(f"jump host {hop.host}: ssh does not take its configuration: {said}")
    found: dict[str, list[str]] = defaultdict(list)
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        found[name].append(value)
    return found
