import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from nixops_proxmox.errors import ActivationFailed, BuildFailed, CopyFailed, SpecError
from nixops_proxmox.kinds.machine.ports import Builder
from nixops_proxmox.model import Completed, Facts, Job, JobPhase, Machine, Phase
from nixops_proxmox.nixeval.builder import NixBuilder, Systems
from nixops_proxmox.nixeval.caches import CacheKey, Caches
from nixops_proxmox.nixeval.copy import Destination
from nixops_proxmox.nixeval.evaluate import Toplevel
from nixops_proxmox.nixeval.holding import SOURCE, hold_script
from nixops_proxmox.nixeval.on_guest import build_script
from nixops_proxmox.nixeval.runner import Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.spec import MachineSpec
from tests.nixeval.scripted import ScriptedRunner
from tests.pace import patience

WEB = Machine("demo", "web")
SPEC = MachineSpec(name="web")


class Says:
    """A shell that answers every script with the same."""

    def __init__(self, done: Completed, fetch: Completed | None = None) -> None:
        self.done, self.fetch, self.heard = done, fetch or done, list[str]()

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        self.heard.append(script)
        return self.fetch if "--realise" in script else self.done

    def start_job(self, name: str, script: str) -> None:
        self.heard.append(script)

    def find_job(self, name: str) -> Job:
        return Job(JobPhase.ABSENT)

    def discard_job(self, name: str) -> None:
        pass

    def wait_for_job(self, name: str, *, timeout: float, tell: Tell) -> Job:
        tell("building")
        return Job(JobPhase.DONE)


def _systems(nix: Nix, run: ScriptedRunner, tmp_path: Path, *names: str) -> Systems:
    toplevels = {name: Toplevel(f"/n/{name}.drv", f"/n/{name}") for name in names}
    return Systems(nix, toplevels, roots=tmp_path / "roots", run=run)


def _builder(nix: Nix, run: ScriptedRunner, tmp_path: Path, told: list[str] | None = None) -> NixBuilder:
    def way_in(machine: Machine, spec: MachineSpec, *, into_target: bool) -> Destination:
        return Destination(f"ssh://{machine.name}", ("-p", "1" if into_target else "2"))

    tell = (told if told is not None else []).append
    return NixBuilder(nix, _systems(nix, run, tmp_path), way_in, run=run, tell=lambda _machine, line: tell(line))


def test_it_has_the_shape_that_the_lifecycle_asks_for(fake_nix: Nix, tmp_path: Path) -> None:
    builder: Builder = _builder(fake_nix, ScriptedRunner([]), tmp_path)  # mypy checks this line
    assert builder.wanted_system(WEB) == "", "a machine without a toplevel asks nothing of Nix"


def test_a_machine_that_is_installed_needs_a_system(fake_nix: Nix, tmp_path: Path) -> None:
    systems = Systems(fake_nix, {}, roots=tmp_path, run=ScriptedRunner([]), needed={"web"})
    with pytest.raises(SpecError, match="web: there is no system to install"):
        systems.get("web")
    assert systems.get("copied") == ""


def test_many_threads_build_once(fake_nix: Nix, tmp_path: Path) -> None:
    run = ScriptedRunner([Completed(0), Completed(0), Completed(0)])
    systems = _systems(fake_nix, run, tmp_path, "web", "app")
    threads = [threading.Thread(target=systems.get, args=(name,)) for name in ("web", "app", "web", "app")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [call[1] for call in run.calls].count("--realise") == 3, "one build, then a root for each"
    assert systems.get("app") == "/n/app"


def test_of_a_hundred_machines_only_those_that_change_are_built(fake_nix: Nix, tmp_path: Path) -> None:
    names = [f"m{number:02}" for number in range(100)]
    run = ScriptedRunner([Completed(0)] * 4)
    systems = _systems(fake_nix, run, tmp_path, *names)
    changed = {"m07", "m42", "m99"}
    systems.expect(changed)
    builder = NixBuilder(fake_nix, systems, _nowhere, run=run)
    for name in names:
        facts = Facts(system="/n/old" if name in changed else f"/n/{name}")
        assert builder.wanted_system(Machine("demo", name, Phase.READY, facts)) == f"/n/{name}"
    build, *roots = run.calls
    assert [word for word in build if word.endswith(".drv")] == ["/n/m07.drv", "/n/m42.drv", "/n/m99.drv"]
    assert len(roots) == 3


def test_one_that_must_be_copied_after_all_is_built_then(fake_nix: Nix, tmp_path: Path) -> None:
    run = ScriptedRunner([Completed(0)] * 3)
    systems = _systems(fake_nix, run, tmp_path, "web", "app")
    systems.expect([])
    builder = NixBuilder(fake_nix, systems, _nowhere, run=run)
    web = Machine("demo", "web", Phase.READY, Facts(system="/n/web"))
    assert builder.wanted_system(web) == "/n/web" and run.calls == []
    builder.copy_system("/n/web", web, SPEC, Says(Completed(0)), into_target=False)
    build, _root, copy = run.calls
    assert build[-1] == "/n/web.drv" and copy[-1] == "/n/web"


class StillBuilding:
    """A Nix that has built `/n/app`, and goes on with the rest until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.builds = 0

    def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        tell: Tell | None = None,
        timeout: float | None = None,
    ) -> Completed:
        if "--keep-going" in argv:
            self.builds += 1
            assert self.let_go.wait(patience(60))
        if "--check-validity" in argv:
            return Completed(1, "\n".join(word for word in argv if word.startswith("/n/") and word.endswith("web")))
        return Completed(0)


def test_a_machine_whose_system_is_there_does_not_wait_for_the_others(fake_nix: Nix, tmp_path: Path) -> None:
    run = StillBuilding()
    toplevels = {name: Toplevel(f"/n/{name}.drv", f"/n/{name}") for name in ("web", "app")}
    systems = Systems(fake_nix, toplevels, roots=tmp_path / "roots", run=run)
    assert systems.get("app") == "/n/app", "while the other is being built"
    assert systems.is_built("app") and not systems.is_built("web")
    run.let_go.set()
    assert (systems.get("web"), run.builds) == ("/n/web", 1)


def _nowhere(machine: Machine, spec: MachineSpec, *, into_target: bool) -> Destination:
    return Destination("ssh://web", ())


def test_only_the_machine_whose_build_failed_hears_of_it(fake_nix: Nix, tmp_path: Path) -> None:
    failed = Completed(1, "", "error: builder for '/n/web.drv' failed with exit code 1")
    kept, asked, log = Completed(0), Completed(0, "/n/web.drv\n"), Completed(0, "a\nb\n")
    run = ScriptedRunner([failed, Completed(0, "/n/web\n"), kept, asked, log])
    systems = _systems(fake_nix, run, tmp_path, "web", "app")
    assert systems.get("app") == "/n/app"
    with pytest.raises(BuildFailed, match="web: "):
        systems.get("web")


@pytest.mark.parametrize(
    ("into_target", "url"), [(True, "ssh://web?remote-store=local%3Froot=/mnt"), (False, "ssh://web")]
)
def test_a_system_is_copied_to_the_guest_or_below_its_mnt_and_held_there_before(
    fake_nix: Nix, tmp_path: Path, into_target: bool, url: str
) -> None:
    told: list[str] = []
    run, shell = ScriptedRunner([Completed(0, "", "a line")]), Says(Completed(0))
    _builder(fake_nix, run, tmp_path, told).copy_system("/n/web", WEB, SPEC, shell, into_target=into_target)
    assert shell.heard == [hold_script("/n/web", "/mnt" if into_target else "")]
    assert run.calls[0][-2:] == [url, "/n/web"]
    assert run.environments == [{"NIX_SSHOPTS": "-p 1" if into_target else "-p 2"}]
    assert told == ["a line"]


def test_nothing_is_copied_to_a_guest_that_cannot_keep_it(fake_nix: Nix, tmp_path: Path) -> None:
    run, shell = ScriptedRunner([]), Says(Completed(1, "", "Read-only file system"))
    with pytest.raises(CopyFailed, match="web: its garbage collector cannot be kept from /n/web: Read-only"):
        _builder(fake_nix, run, tmp_path).copy_system("/n/web", WEB, SPEC, shell, into_target=False)
    assert run.calls == []


@pytest.mark.parametrize("into_target", [True, False])
def test_a_machine_that_builds_its_own_system_gets_the_derivations_and_nothing_is_built_here(
    fake_nix: Nix, tmp_path: Path, into_target: bool
) -> None:
    told: list[str] = []
    run, shell = ScriptedRunner([Completed(0)]), Says(Completed(0))
    toplevels = {"web": Toplevel("/n/web.drv", "/n/web")}
    systems = Systems(fake_nix, toplevels, roots=tmp_path, run=run, needed={"web"}, elsewhere={"web"})
    builder = NixBuilder(fake_nix, systems, _nowhere, run=run, tell=lambda _machine, line: told.append(line))
    assert builder.wanted_system(WEB) == "/n/web" and not run.calls
    builder.copy_system("/n/web", WEB, CACHED, shell, into_target=into_target)
    root, url = ("/mnt", "ssh://web?remote-store=local%3Froot=/mnt") if into_target else ("", "ssh://web")
    (copy,) = run.calls
    assert "--derivation" in copy and copy[-2:] == [url, "/n/web.drv"]
    held = [hold_script("/n/web", root), hold_script("/n/web.drv", root, SOURCE)]
    assert shell.heard == [*held, build_script("/n/web.drv", "/n/web", root)]
    assert told == ["building its system on it", "building"]


def test_what_a_machine_builds_itself_is_not_built_here_with_the_others(fake_nix: Nix, tmp_path: Path) -> None:
    run = ScriptedRunner([Completed(0)] * 2)
    toplevels = {name: Toplevel(f"/n/{name}.drv", f"/n/{name}") for name in ("web", "app")}
    systems = Systems(fake_nix, toplevels, roots=tmp_path, run=run, elsewhere={"web"})
    systems.expect(["web", "app"])
    assert systems.get("app") == "/n/app" and "/n/web.drv" not in run.calls[0]


CACHED = MachineSpec.model_validate(
    {"name": "web", "deploy": {"copying": {"cache": {"push": "file:///c", "url": "https://cache.lan"}}}}
)


@pytest.mark.parametrize(("pushed", "fetched"), [(0, 0), (1, 0), (0, 1)])
def test_a_system_is_fetched_from_the_cache_or_else_copied_from_here(
    fake_nix: Nix, tmp_path: Path, pushed: int, fetched: int
) -> None:
    run, warned = ScriptedRunner([Completed(pushed, "", "error: no"), Completed(0)]), list[str]()
    shell = Says(Completed(0), fetch=Completed(fetched, "", "no such cache"))
    caches = Caches(fake_nix, lambda: CacheKey(tmp_path / "key", "shop-1:AAAA"), run)
    systems = _systems(fake_nix, run, tmp_path)
    builder = NixBuilder(
        fake_nix, systems, _nowhere, run=run, warn=lambda _machine, line: warned.append(line), caches=caches
    )
    builder.copy_system("/n/web", WEB, CACHED, shell, into_target=True)
    direct = [call for call in run.calls if "ssh://web?remote-store=local%3Froot=/mnt" in call]
    assert (len(direct), len(warned)) == ((0, 0) if pushed == fetched == 0 else (1, 1))
    assert any("local?root=/mnt" in script and "https://cache.lan" in script for script in shell.heard) is (not pushed)


def test_activation_tells_the_generation(fake_nix: Nix, tmp_path: Path) -> None:
    shell = Says(Completed(0, "done\nnixops-proxmox: generation system-7-link\n"))
    assert _builder(fake_nix, ScriptedRunner([]), tmp_path).activate("/n/web", shell) == 7


def test_a_system_that_needs_a_reboot_is_not_called_active(fake_nix: Nix, tmp_path: Path) -> None:
    shell = Says(Completed(100, "nixops-proxmox: generation system-7-link\n"))
    with pytest.raises(ActivationFailed, match="generation 7 takes effect only after a reboot"):
        _builder(fake_nix, ScriptedRunner([]), tmp_path).activate("/n/web", shell)
