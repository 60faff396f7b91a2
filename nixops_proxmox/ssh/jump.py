"""Jump hosts as the user's own SSH configuration means them: aliases and options, told by `ssh -G`.

An option that is set otherwise than ssh's own default is followed, or handed to the programs (ssh, scp, Nix) that we
start, or changes nothing about how we connect. Any other one is refused by name, so that we take no jump host in
another way than ssh does. What only loosens ssh's check of the host key is left aside: here it is not switched off.
"""

import getpass
import os
import re
import socket
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from nixops_proxmox.errors import SshRefused
from nixops_proxmox.paths import expanded
from nixops_proxmox.ssh.argv import Hop, canonical_host, parse_jump

LOOK_TIME = 20.0  # seconds; `Match exec` in the user's configuration may take its time

FOLLOWED = frozenset({
    "host", "hostname", "port", "user", "hostkeyalias", "userknownhostsfile", "globalknownhostsfile", "identityfile",
    "identitiesonly", "addressfamily", "hostkeyalgorithms", "casignaturealgorithms",
})  # fmt: skip
# How the bytes travel. Our own connections choose for themselves, and know the older algorithms, too.
HANDED_ON = {
    "ciphers": "Ciphers", "macs": "MACs", "kexalgorithms": "KexAlgorithms", "compression": "Compression",
    "pubkeyacceptedalgorithms": "PubkeyAcceptedAlgorithms", "hostkeyalgorithms": "HostKeyAlgorithms",
    "casignaturealgorithms": "CASignatureAlgorithms", "addressfamily": "AddressFamily", "ipqos": "IPQoS",
}  # fmt: skip
# Of sessions, terminals, forwardings, other ways to log in, or of what is already resolved.
WITHOUT_EFFECT = frozenset({
    "addkeystoagent", "batchmode", "canonicaldomains", "canonicalizefallbacklocal", "canonicalizehostname",
    "canonicalizemaxdots", "canonicalizepermittedcnames", "channeltimeout", "checkhostip", "clearallforwardings",
    "connectionattempts", "connecttimeout", "controlmaster", "controlpath", "controlpersist", "dynamicforward",
    "enableescapecommandline", "enablesshkeysign", "escapechar", "exitonforwardfailure", "fingerprinthash",
    "forkafterauthentication", "forwardagent", "forwardx11", "forwardx11timeout", "forwardx11trusted", "gatewayports",
    "gssapiauthentication", "gssapiclientidentity", "gssapidelegatecredentials", "gssapikexalgorithms",
    "gssapikeyexchange", "gssapirenewalforcesrekey", "gssapiserveridentity", "gssapitrustdns", "hashknownhosts",
    "hostbasedacceptedalgorithms", "hostbasedauthentication", "ignoreunknown", "kbdinteractiveauthentication",
    "kbdinteractivedevices", "localcommand", "localforward", "loglevel", "logverbose",
    "nohostauthenticationforlocalhost", "numberofpasswordprompts", "obscurekeystroketiming", "passwordauthentication",
    "permitlocalcommand", "permitremoteopen", "rekeylimit", "remotecommand", "remoteforward", "requesttty", "sendenv",
    "serveralivecountmax", "serveraliveinterval", "sessiontype", "setenv", "stdinnull", "streamlocalbindmask",
    "streamlocalbindunlink", "stricthostkeychecking", "syslogfacility", "tag", "tcpkeepalive", "tunnel", "tunneldevice",
    "updatehostkeys", "verifyhostkeydns", "versionaddendum", "visualhostkey", "warnweakcrypto", "xauthlocation",
})  # fmt: skip
# What means that nothing is asked for, where ssh's own default does not say so.
NOTHING = {
    "proxyjump": ("none",),
    "proxycommand": ("none",),
    "knownhostscommand": ("none",),
    "revokedhostkeys": ("none",),
    "certificatefile": ("none",),
    "identityagent": ("none", "SSH_AUTH_SOCK", "$SSH_AUTH_SOCK"),
    "pkcs11provider": ("none",),
    "pubkeyauthentication": ("true", "yes"),
}
_DEFAULT_KEYS = frozenset(
    f"~/.ssh/id_{kind}"
    for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa", "mldsa44_ed25519")
)
_DEFAULT_USER_FILES = ("/.ssh/known_hosts", "/.ssh/known_hosts2")
_DEFAULT_GLOBAL_FILES = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]

Said = Mapping[str, Sequence[str]]


def resolve_jump(text: str, config: Path | None = None) -> tuple[Hop, ...]:
    """The jump hosts of an OpenSSH ProxyJump. `config`: instead of the user's and the system's configuration."""
    return tuple(resolve(hop, config) for hop in parse_jump(text))


def resolve(hop: Hop, config: Path | None = None) -> Hop:
    """SshRefused where the configuration asks for what cannot be done."""
    said = _ask_ssh(hop, config)
    if not said:
        return hop
    plain = _defaults()
    asked = {name for name in said if said[name] != plain.get(name)}
    for name in sorted(asked):
        _refuse_unknown(hop, name, said[name])
    host, port, user = canonical_host(said["hostname"][0]), int(said["port"][0]), said["user"][0]
    resolved = replace(hop, host=host, port=port, user=user, alias=said.get("hostkeyalias", [""])[0])
    named = [_path_of(resolved, hop, name) for name in said.get("identityfile", []) if name not in _DEFAULT_KEYS]
    return replace(
        resolved,
        known_hosts=_known_hosts(said),
        identities=tuple(key for key in named if key.exists() or key.with_name(f"{key.name}.pub").exists()),
        only_identities=said.get("identitiesonly") == ["yes"],
        family=said.get("addressfamily", ["any"])[0],
        algorithms=_listed(said, "hostkeyalgorithms") if "hostkeyalgorithms" in asked else (),
        signatures=_listed(said, "casignaturealgorithms") if "casignaturealgorithms" in asked else (),
        more=tuple((word, " ".join(said[name])) for name, word in HANDED_ON.items() if name in asked),
    )


def _refuse_unknown(hop: Hop, name: str, values: Sequence[str]) -> None:
    value = " ".join(values)
    if name in FOLLOWED or name in HANDED_ON or name in WITHOUT_EFFECT or value in NOTHING.get(name, ()):
        return
    if name == "preferredauthentications" and "publickey" in value.split(","):
        return
    raise SshRefused(
        f"jump host {hop.host}: the SSH configuration gives it {name} ({value}), which is not supported here",
        hint="name every jump host in endpoint.jump (a,b), or write a Host entry without that option",
    )


def _listed(said: Said, name: str) -> tuple[str, ...]:
    return tuple(" ".join(said[name]).split(","))


def _path_of(hop: Hop, typed: Hop, name: str) -> Path:
    """`ssh -G` leaves the tokens of IdentityFile as they are."""
    tokens = {
        "%": "%", "h": hop.host, "n": typed.host, "p": str(hop.port), "r": hop.user, "k": hop.alias or typed.host,
        "u": getpass.getuser(), "i": str(os.getuid()), "d": str(expanded("~")),
        "l": socket.gethostname(), "L": socket.gethostname().partition(".")[0],
    }  # fmt: skip

    def token(match: re.Match[str]) -> str:
        found = os.environ.get(match[2]) if match[2] else tokens.get(match[1])
        if found is None:
            raise SshRefused(f"jump host {typed.host}: {match[0]} in its identityfile ({name}) is not supported here")
        return found

    return expanded(re.sub(r"%(.)|\$\{([^}]*)\}", token, name))


def _known_hosts(said: Said) -> tuple[Path, ...]:
    """The files that the configuration names. Empty for ssh's own defaults."""
    users = " ".join(said.get("userknownhostsfile", [])).split()
    systems = " ".join(said.get("globalknownhostsfile", [])).split()
    plain = len(users) == len(_DEFAULT_USER_FILES) and all(map(str.endswith, users, _DEFAULT_USER_FILES))
    if plain and systems == _DEFAULT_GLOBAL_FILES:
        return ()
    return tuple(expanded(name) for name in (*users, *systems) if name not in ("none", "/dev/null"))


@cache
def _defaults() -> Said:
    """The defaults of ssh itself, without any configuration."""
    return _ask_ssh(Hop("localhost"), Path("none"))


def _ask_ssh(hop: Hop, config: Path | None) -> Said:
    """What `ssh -G` says of the host. Nothing without an ssh."""
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
