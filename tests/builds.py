"""What tests that build with a real Nix share: how a script becomes a derivation, and Nix's settings."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.pace import patience

BUILDER = Path(__file__).parents[1] / "examples" / "demo" / "builder.nix"


def nix_config(*lines: str) -> str:
    """NIX_CONFIG for a store of the test's own: no binary cache, no build users, and what CI says of the sandbox."""
    sandbox = [line for line in os.environ.get("NIX_CONFIG", "").splitlines() if line.startswith("sandbox")]
    return "\n".join(["substituters =", "build-users-group =", *sandbox, *lines])


def build_with_nix(*words: str, **environment: str) -> str:
    """The store path that `nix-build` makes in the store that a deploy takes; root needs no build users for it."""
    from nixops_proxmox.nixeval.tools import get_nix

    done = subprocess.run(
        get_nix().argv("nix-build", *words),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@functools.cache
def can_sandbox() -> bool:
    """Whether Nix can build in a sandbox here: a kernel, or a container around us, may forbid it."""
    if shutil.which("nix-build") is None:
        return False
    with tempfile.TemporaryDirectory(prefix="nixops-proxmox-sandbox.") as scratch:
        folders = {f"NIX_{name}_DIR": f"{scratch}/{name.lower()}" for name in ("STORE", "STATE", "LOG", "CONF")}
        settings = "substituters =\nbuild-users-group =\nsandbox = true\nsandbox-fallback = false"
        done = subprocess.run(
            ["nix-build", "--no-out-link", "-E", f'import {BUILDER} "sandboxed" {{ }} "echo >$out"'],
            env=os.environ | folders | {"NIX_REMOTE": "", "NIX_CONFIG": settings},
            capture_output=True,
            timeout=patience(120),
            check=False,
        )
        subprocess.run(["chmod", "-R", "u+w", scratch], check=False)  # Nix makes its store's folders read-only
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(not can_sandbox())
