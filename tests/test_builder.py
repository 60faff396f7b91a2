"""examples/demo/builder.nix: a build needs the store, and nothing of the machine that it runs on."""

import os
from pathlib import Path

import pytest

from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix, get_nix
from tests.builds import BUILDER, can_sandbox, nix_config
from tests.nixes import NIXES, nix_path, store_folder

pytestmark = pytest.mark.nix
SCRIPT = f"""import {BUILDER} "tried" {{ word = "hello"; }} ''
  mkdir $out
  echo $word >$out/said
  ls -d /bin /usr /etc/passwd >$out/seen 2>/dev/null || :
''"""


@pytest.fixture(autouse=True, scope="module")
def busybox() -> None:
    if not any(map(os.path.exists, (os.environ.get("DEMO_BUSYBOX", ""), "/usr/bin/busybox", "/bin/busybox"))):
        pytest.skip("there is no static busybox to build with: apt-get install busybox-static")


@pytest.fixture(scope="module", params=NIXES)
def nix(request: pytest.FixtureRequest) -> Nix:
    return get_nix({**os.environ, "PATH": nix_path(request.param)})


def _build(nix: Nix, folder: Path, expression: str, *settings: str, **environment: str) -> Completed:
    folders = {f"NIX_{name}_DIR": str(folder / "nix" / name.lower()) for name in ("STORE", "STATE", "LOG", "CONF")}
    own = folders | {"NIX_REMOTE": "", "NIX_PATH": "", "NIX_CONFIG": nix_config(*settings)} | environment
    return ProcessRunner(environment=own)(nix.argv("nix-build", "--no-out-link", "-E", expression))


def test_a_script_builds_in_a_sandbox_that_has_nothing_of_the_host(nix: Nix, tmp_path: Path) -> None:
    if not can_sandbox():
        pytest.skip("this kernel, or a container, allows Nix no sandbox")
    done = _build(nix, tmp_path, SCRIPT, "sandbox = true", "sandbox-fallback = false", "sandbox-paths =")
    assert done.status == 0, done.stderr
    out = Path(done.stdout.strip())
    assert (out / "said").read_text() == "hello\n"
    assert (out / "seen").read_text() == "/etc/passwd\n", "Nix's own, which every sandbox has"


def test_the_same_script_builds_without_a_sandbox(nix: Nix, tmp_path: Path) -> None:
    done = _build(nix, tmp_path, SCRIPT, "sandbox = false")
    assert done.status == 0, done.stderr


def test_the_files_of_a_store_that_settings_name_are_found(nix: Nix, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("hello\n")
    settings = f"substituters =\nstore = {tmp_path}/own\nsandbox = true"
    own = {"NIX_REMOTE": "", "NIX_CONFIG": settings}
    done = ProcessRunner(environment=own)(nix.argv("nix-store", "--add", str(tmp_path / "word")))
    assert done.status == 0, done.stderr
    assert (store_folder(settings) / Path(done.stdout.strip()).name).read_text() == "hello\n"
    assert store_folder("substituters =") == Path("/nix/store")


def test_a_machine_without_a_static_busybox_is_told_what_to_install(nix: Nix, tmp_path: Path) -> None:
    done = _build(nix, tmp_path, SCRIPT, DEMO_BUSYBOX=str(tmp_path / "busybox"))
    assert done.status != 0
    assert "apt-get install busybox-static" in done.stderr
