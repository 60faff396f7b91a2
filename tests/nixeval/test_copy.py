from pathlib import Path

import pytest

from nixops_proxmox.errors import CopyFailed, Retry
from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.copy import (
    CopyProgress,
    Destination,
    copy_argv,
    copy_closure,
    copy_environment,
    under_root,
)
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from tests.builds import BUILDER
from tests.nixeval.scripted import ScriptedRunner

SYSTEM = "/nix/store/vzdzgmfypv8sjfw9zczpvkdvx5aghyaz-web"
GUEST = Destination("ssh-ng://root@[fd77::1]", ("-F", "none", "-i", "/k"))


@pytest.mark.parametrize(
    ("url", "root", "result"),
    [
        ("ssh://root@[fd77::1]", "/mnt", "ssh://root@[fd77::1]?remote-store=local%3Froot=/mnt"),
        ("ssh://a?compress=true", "/mnt", "ssh://a?compress=true&remote-store=local%3Froot=/mnt"),
        ("ssh://a", "/m t", "ssh://a?remote-store=local%3Froot=/m%20t"),
    ],
)
def test_a_store_below_a_root_is_named_in_the_url(url: str, root: str, result: str) -> None:
    assert under_root(url, root) == result


def test_the_copy_is_one_command_run_through_what_it_was_given(fake_nix: Nix) -> None:
    through = Destination(GUEST.store_url, GUEST.ssh_options, through=("nsenter", "-t", "7", "-n"))
    assert copy_argv(fake_nix, [SYSTEM], through) == [
        *("nsenter", "-t", "7", "-n"),
        *("/n/bin/nix", "--extra-experimental-features", "nix-command", "copy"),
        *("--no-check-sigs", "--to", "ssh-ng://root@[fd77::1]", SYSTEM),
    ]
    assert through.into("/mnt").through == through.through


def test_the_users_own_caches_are_used_by_the_guest_when_asked(fake_nix: Nix) -> None:
    argv = copy_argv(fake_nix, [SYSTEM], Destination("ssh://a", from_caches=True))
    assert "--substitute-on-destination" in argv


def test_ssh_options_travel_in_the_environment(fake_nix: Nix) -> None:
    run = ScriptedRunner([Completed(0)])
    copy_closure(fake_nix, SYSTEM, GUEST, machine="web", run=run)
    assert run.environments == [{"NIX_SSHOPTS": "-F none -i /k"}]


def test_an_option_that_nix_would_tear_apart_is_refused() -> None:
    with pytest.raises(CopyFailed, match="contains blanks"):
        copy_environment(Destination("ssh://a", ("-i", "/home/a b/key")))


def test_a_failed_copy_names_machine_and_target_and_may_be_repeated(fake_nix: Nix) -> None:
    run = ScriptedRunner([Completed(1, "", "warning: x\nerror: cannot connect to 'root@fd77::1'\n")])
    with pytest.raises(CopyFailed, match=r"web: .*\nerror: cannot connect to 'root@fd77::1'$") as caught:
        copy_closure(fake_nix, SYSTEM, GUEST, machine="web", run=run)
    assert caught.value.retry is Retry.SAFE


def test_progress_counts_paths_and_bytes_and_asks_for_sizes_once_and_only_when_something_is_sent() -> None:
    lines: list[str] = []
    asked: list[str] = []

    def sizes() -> dict[str, int]:
        asked.append("sizes")
        return {SYSTEM: 5 << 20}

    progress = CopyProgress(lines.append, sizes)
    progress("copying 2 paths...")
    assert asked == []
    for line in (f"copying path '{SYSTEM}' to 'ssh://a'...", "", f"copying path '{SYSTEM}-2' to 'x'...", "other"):
        progress(line)
    assert lines == ["copying 1/2 web", "copying 2/2 web-2 (5 MiB before it)", "other"]
    assert asked == ["sizes"]


@pytest.mark.nix
def test_a_real_nix_takes_the_command_and_its_progress_is_read(
    nix: Nix, nix_run: ProcessRunner, tmp_path: Path
) -> None:
    text = f"""
      let make = name: text: import {BUILDER} name {{ }} "echo ${{text}} >$out"; in make "outer" (make "inner" "x")"""
    drv = nix_run(nix.argv("nix-instantiate", "-E", text)).stdout.strip()
    system = nix_run(nix.argv("nix-store", "--realise", drv)).stdout.strip()
    lines: list[str] = []
    there = Destination(f"local?require-sigs=false&root={tmp_path / 'there'}")
    copy_closure(nix, system, there, machine="web", run=nix_run, tell=lines.append)
    assert lines == ["copying 1/2 inner", "copying 2/2 outer"]
    copy_closure(nix, system, there, machine="web", run=nix_run, tell=lines.append)
    assert len(lines) == 2, "what is there is not copied again"
    with pytest.raises(CopyFailed, match=r"web: .* could not be copied to .*\n.*no-such-path"):
        copy_closure(nix, f"{system}-no-such-path", there, machine="web", run=nix_run)
