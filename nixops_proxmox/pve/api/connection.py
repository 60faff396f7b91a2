"""From a profile to a client: the only place where trust, credentials and transport are put together."""

import time
from collections.abc import Callable

from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.wire.calls import Trace, no_trace
from nixops_proxmox.pve.wire.credentials import RunProgram, run_command, secret_of
from nixops_proxmox.pve.wire.login import Authentication, TicketLogin, TokenLogin
from nixops_proxmox.pve.wire.profiles import Profile
from nixops_proxmox.pve.wire.tls import IDLE, Connections, always, build_context, checked_file
from nixops_proxmox.pve.wire.transport import Transport
from nixops_proxmox.secrecy import learn


def open_transport(
    profile: Profile,
    *,
    trace: Trace = no_trace,
    runner: RunProgram = run_command,
    sleep: Callable[[float], None] = time.sleep,
    may_act: Callable[[], None] = always,
    idle: float = IDLE,
) -> Transport:
    """Nothing is sent before the first call. ConfigError for bad credentials."""
    ca_file = checked_file(profile.ca_file, f"profile {profile.name!r}: `ca_file`") if profile.ca_file else ""
    connections = Connections(build_context(ca_file, profile.fingerprint), profile.fingerprint, idle=idle)
    transport = Transport(profile.servers, connections, trace=trace, sleep=sleep, proxy=profile.proxy, may_act=may_act)
    transport.use_login(_login(profile, secret_of(profile, runner), transport))
    return transport


def connect(
    profile: Profile,
    *,
    trace: Trace = no_trace,
    runner: RunProgram = run_command,
    sleep: Callable[[float], None] = time.sleep,
    may_act: Callable[[], None] = always,
    idle: float = IDLE,
) -> PveClient:
    """A client for the profile's cluster. Nothing is sent before the first call. ConfigError for bad credentials."""
    return PveClient(open_transport(profile, trace=trace, runner=runner, sleep=sleep, may_act=may_act, idle=idle))


def _login(profile: Profile, secret: str, transport: Transport) -> Authentication:
    learn(secret, profile.otp, profile.totp_secret, profile.proxy)
    if profile.is_token:
        identity, _, value = secret.partition("=")
        learn(value)
        return TokenLogin(identity, value)
    return TicketLogin(
        profile.username,
        secret,
        transport.send_unauthenticated,
        otp=profile.otp,
        totp_secret=profile.totp_secret,
    )
