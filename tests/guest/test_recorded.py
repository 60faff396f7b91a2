"""Answers that a real PVE 8.4 gave for the guest agent, through the parsers that we use."""

import json
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.guest.agent import is_lost_pid
from nixops_proxmox.guest.interfaces import addresses_of
from nixops_proxmox.pve.api.answers import parse_exec_status, parse_interfaces
from nixops_proxmox.reach.classify import find_reach

FILE = Path(__file__).parents[2] / "../shared/facts/real-pve-8.4-responses.json"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the recorded answers are not here")


def recorded(label: str) -> dict[str, Any]:
    return next(entry for entry in json.loads(FILE.read_text()) if entry["label"] == label)


def test_the_recorded_interfaces_are_addresses() -> None:
    found = addresses_of(parse_interfaces(recorded("agent network-get-interfaces ok")["body_json"]["data"]), find_reach)
    assert ("lo", "127.0.0.1", "") in [(address.interface, str(address.ip), address.mac) for address in found]
    assert all(address.mac == address.mac.lower() for address in found)


def test_the_recorded_results_are_bytes_and_statuses() -> None:
    done = parse_exec_status(recorded("agent exec-status right away array (repeated)")["body_json"]["data"])
    assert (done.exited, done.status, done.stdout, done.stderr) == (True, 3, b"out\n", b"err\n")
    binary = parse_exec_status(recorded("agent exec-status right away binary output")["body_json"]["data"])
    assert binary.stdout == b"\xff\x01x"
    assert parse_exec_status(recorded("agent exec-status right away killed by signal")["body_json"]["data"]).signal == 9
    assert not parse_exec_status(recorded("agent exec-status right away stdin")["body_json"]["data"]).exited


def test_a_result_told_already_is_known_by_its_text() -> None:
    assert is_lost_pid(recorded("agent exec-status again single command")["reason"])
    assert is_lost_pid("Agent error: PID 107 does not exist")
    assert not is_lost_pid(recorded("agent file-read missing")["reason"])
