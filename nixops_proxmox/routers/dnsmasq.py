"""dnsmasq: one file for each NIC in the folder of `dhcp-hostsdir`, here or on another computer over SSH.

dnsmasq sees a new or changed file at once. It forgets what a removed file said only when it reads its lists again.
"""

import re
import shlex
import subprocess
from collections.abc import Sequence

from nixops_proxmox.errors import ConfigError, RouterError, RouterOutcomeUnknown, RouterUnreachable
from nixops_proxmox.routers.profile import RouterProfile
from nixops_proxmox.routers.reservation import Reservation

OURS = "nixops-proxmox-"  # how our files' names begin
HEAD = "# nixops-proxmox: "  # … and their texts: whose they are
TIME = 60.0  # seconds
_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10", "--")


class Dnsmasq:
    marks = True

    def __init__(self, profile: RouterProfile) -> None:
        self._profile = profile
        self._folder, self._ssh = profile.setting("directory"), profile.setting("ssh")
        self._reload = profile.setting("reload")
        if not self._folder.startswith("/"):
            raise ConfigError(
                f"{profile.title}: `directory` must be the absolute path of the folder that dhcp-hostsdir names"
            )

    def read(self) -> Sequence[Reservation]:
        text = self._run(
            'cd "$1" && for file in *; do [ -f "$file" ] || continue; printf "\\034%s\\n" "$file"; cat -- "$file"; done'
        )
        found = []
        for part in text.split("\x1c")[1:]:
            name, _, content = part.partition("\n")
            owner = _owner_of(content) if name.startswith(OURS) else ""
            lines = (line.strip() for line in content.splitlines())
            found += [parse_line(line, owner) for line in lines if line and not line.startswith("#")]
        return found

    def put(self, wanted: Sequence[Reservation]) -> None:
        """Each file is replaced as a whole. The temporary one has a name that dnsmasq passes over (a dot)."""
        self._run("\n".join(_writing(file_name(one.owner), file_text(one)) for one in wanted))

    def agrees(self, have: Reservation, want: Reservation) -> bool:
        return have == want

    def drop(self, gone: Sequence[Reservation]) -> None:
        there = {one.owner for one in self.read()}
        owners = [one.owner for one in gone if one.owner in there]
        if owners:
            self._run("\n".join(f'rm -f -- "$1/{file_name(owner)}" || exit 1' for owner in owners))

    def settle(self) -> None:
        """Safe to repeat: dnsmasq reads its lists again."""
        if self._reload:
            self._run(self._reload)

    def _run(self, script: str) -> str:
        script = f"set -- {shlex.quote(self._folder)}\n{script}\n"
        argv = [*_SSH, self._ssh, "sh"] if self._ssh else ["sh"]
        where = f"{self._profile.title}: {self._folder}" + (f" on {self._ssh}" if self._ssh else "")
        try:
            done = subprocess.run(argv, input=script.encode(), capture_output=True, check=False, timeout=TIME)
        except OSError as error:
            raise RouterUnreachable(f"{where}: {argv[0]} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise RouterOutcomeUnknown(f"{where}: no end within {TIME:.0f} s") from error
        if done.returncode != 0:
            told = done.stderr.decode("utf-8", "replace").strip()
            kind = RouterUnreachable if self._ssh and done.returncode == 255 else RouterError
            raise kind(f"{where}: exit status {done.returncode}: {told}")
        return done.stdout.decode("utf-8", "replace")


def _writing(name: str, text: str) -> str:
    beside, there = f'"$1/.{name}"', f'"$1/{name}"'
    return f"printf %s {shlex.quote(text)} >{beside} && chmod 644 {beside} && mv -f {beside} {there} || exit 1"


def file_name(owner: str) -> str:
    return OURS + re.sub(r"[^A-Za-z0-9.-]", "_", owner)


def file_text(one: Reservation) -> str:
    return f"{HEAD}{one.owner}\n{print_line(one)}\n"


def print_line(one: Reservation) -> str:
    """As in a hosts file of dnsmasq, without `dhcp-host=`."""
    parts = [one.mac, one.ipv4, f"[{one.ipv6}]" if one.ipv6 else "", one.hostname]
    return ",".join(part for part in parts if part)


def parse_line(line: str, owner: str) -> Reservation:
    mac = ipv4 = ipv6 = hostname = ""
    for part in (part.strip() for part in line.split(",")):
        if re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", part):
            mac = mac or part.lower()
        elif part.startswith("["):
            ipv6 = part.strip("[]")
        elif re.fullmatch(r"[0-9.]{7,15}", part):
            ipv4 = part
        elif re.fullmatch(r"(?!ignore$|infinite$)[A-Za-z][A-Za-z0-9.-]*", part):
            hostname = part
    return Reservation(owner, mac, ipv4, ipv6, hostname)


def _owner_of(content: str) -> str:
    first = content.partition("\n")[0]
    return first.removeprefix(HEAD).strip() if first.startswith(HEAD) else ""
