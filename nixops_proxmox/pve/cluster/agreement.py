"""A description that names its hypervisor, user or token must not be carried out on or by another one."""

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.pve.wire.profiles import Profile
from nixops_proxmox.pve.wire.servers import parse_server
from nixops_proxmox.spec import MachineSpec


def refuse_other_profile(spec: MachineSpec, profile: Profile) -> None:
    """Raises ConfigError where the profile leads elsewhere than `serverUrl`, `username` and `tokenName` say."""
    here = [server.url for server in profile.servers]
    if spec.server_url and parse_server(spec.server_url).url not in here:
        raise _other(spec, "serverUrl", spec.server_url, f"leads to {', '.join(here)}")
    user, _, token = identity_of(profile).partition("!")
    if spec.username and spec.username not in (user, user.rpartition("@")[0]):
        raise _other(spec, "username", spec.username, f"logs in as {user}" if user else _UNKNOWN)
    if spec.token_name and spec.token_name != token:
        says = f"has the token {user}!{token}" if token else "has no API token" if not profile.is_token else _UNKNOWN
        raise _other(spec, "tokenName", spec.token_name, says)


_UNKNOWN = "does not say whose token its token_command prints (add `token_id`)"


def identity_of(profile: Profile) -> str:
    """user@realm or user@realm!token. Empty: only the profile's token_command knows."""
    return profile.token.partition("=")[0] or profile.token_id or profile.username


def _other(spec: MachineSpec, option: str, value: str, says: str) -> ConfigError:
    return ConfigError(
        f"{spec.name}: the description says {option} = {value!r}, and the profile {spec.profile!r} {says}",
        hint=f"set the `profile` that fits, or remove `{option}`",
    )
