"""Getting a profile's secret: as written, or from the command that knows it."""

import subprocess
from collections.abc import Callable, Sequence

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Completed
from nixops_proxmox.pve.wire.profiles import Profile, check_token

RunProgram = Callable[[Sequence[str]], Completed]
COMMAND_TIME = 60.0  # seconds; a password manager may ask its user


def run_command(argv: Sequence[str]) -> Completed:
    """It runs with our own environment and terminal, because it may have to ask. ConfigError if it cannot be run or
    hangs."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=False, timeout=COMMAND_TIME)
    except OSError as error:
        raise ConfigError(f"{argv[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{argv[0]} did not end within {COMMAND_TIME:.0f} s") from error
    return Completed(done.returncode, done.stdout.decode("utf-8", "replace"))


def ask_command(command: Sequence[str], where: str, runner: RunProgram = run_command) -> str:
    """What it prints, without the last line's end. Raises ConfigError, also where that is nothing."""
    try:
        done = runner(command)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error
    if done.status != 0:
        raise ConfigError(f"{where} ended with exit status {done.status}")
    secret = done.stdout.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise ConfigError(f"{where} printed nothing")
    return secret


def secret_of(profile: Profile, runner: RunProgram = run_command) -> str:
    """The token (user@realm!name=secret) or the password."""
    command = profile.token_command or profile.password_command
    if not command:
        return profile.token or profile.password
    where = f"profile {profile.name!r}: {'token_command' if profile.token_command else 'password_command'}"
    secret = ask_command(command, where, runner)
    if profile.token_command:
        secret = secret.strip().removeprefix("PVEAPIToken=")
        if profile.token_id and "!" not in secret:
            secret = f"{profile.token_id}={secret}"
        check_token(secret, where)
    return secret
