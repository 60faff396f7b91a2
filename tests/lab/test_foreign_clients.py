"""Clients that nobody here wrote, run as their users run them: what they need of PVE, the lab has."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from proxmoxer import ProxmoxAPI
from proxmoxer.tools import Files, Tasks

from nixops_proxmox.lab.testing import RunningLab
from tests.lab.http import Client
from tests.pace import patience
from tests.ports import free_port

COLLECTIONS = Path(os.environ.get("NIXOPS_PROXMOX_TEST_COLLECTIONS", "/nonexistent"))
BIN = Path(sys.executable).parent


def _refused(lab: RunningLab) -> list[str]:
    """What was asked and got no answer that a client can use."""
    return [f"{call['method']} {call['path']}: {call['status']}" for call in lab.calls if call["status"] in (-1, 501)]


def _program(name: str) -> str:
    found = shutil.which(name, path=str(BIN))
    if found is None:
        pytest.skip(f"{name} is not installed: scripts/test installs it where a package index is in reach")
    return found


def _environment(lab: RunningLab, **more: str) -> dict[str, str]:
    return {**os.environ, "REQUESTS_CA_BUNDLE": str(lab.ca_file), "NO_PROXY": "127.0.0.1", **more}


def test_prometheus_pve_exporter_scrapes_the_cluster_and_a_node(
    lab: RunningLab, api: Client, running: int, tmp_path: Path
) -> None:
    user, _, rest = lab.token.partition("!")
    name, _, value = rest.partition("=")
    config = tmp_path / "pve.yml"
    config.write_text(json.dumps({"default": {"user": user, "token_name": name, "token_value": value}}))
    port = free_port()
    argv = [_program("pve_exporter"), "--config.file", str(config), f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(argv, env=_environment(lab), stderr=subprocess.PIPE, text=True) as exporter:
        try:
            text = _scrape(f"http://127.0.0.1:{port}/pve?target=127.0.0.1:{lab.port}&cluster=1&node=1", exporter)
        finally:
            exporter.kill()  # it waits for requests of its own at a polite end
            assert exporter.stderr is not None
            said = exporter.stderr.read()

    assert f'pve_up{{id="qemu/{running}"}} 1.0' in text, (text, said)
    assert 'pve_up{id="node/pve1"} 1.0' in text
    assert re.search(r'pve_guest_info\{.*name="web"', text)
    assert re.search(r'pve_storage_\w+\{.*id="storage/pve1/local-lvm"', text)
    assert _refused(lab) == []


def _scrape(url: str, exporter: "subprocess.Popen[str]") -> str:
    deadline = time.monotonic() + patience(60)
    while True:
        try:
            with urllib.request.urlopen(url, timeout=patience(60)) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline or exporter.poll() is not None:
                raise
            time.sleep(0.2)


def test_ansible_lists_the_machines_as_its_inventory(
    lab: RunningLab, api: Client, running: int, tmp_path: Path
) -> None:
    if not (COLLECTIONS / "ansible_collections" / "community" / "proxmox").is_dir():
        pytest.skip(
            "the collection community.proxmox is not there: scripts/test gets it where a package index is in reach"
        )
    user, _, rest = lab.token.partition("!")
    name, _, value = rest.partition("=")
    source = tmp_path / "lab.proxmox.yml"
    source.write_text(
        json.dumps(
            {
                "plugin": "community.proxmox.proxmox",
                "url": lab.url,
                "user": user,
                "token_id": name,
                "token_secret": value,
                "validate_certs": True,
                "want_facts": True,
                "want_proxmox_nodes_ansible_host": True,
            }
        )
    )
    environment = _environment(
        lab,
        ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
        ANSIBLE_HOME=str(tmp_path / "home"),
        ANSIBLE_INVENTORY_UNPARSED_FAILED="true",
        LC_ALL="C.UTF-8",
    )
    argv = [_program("ansible-inventory"), "-i", str(source), "--list"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=patience(300), cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    inventory = json.loads(done.stdout)
    assert inventory["proxmox_all_running"]["hosts"] == ["web"]
    assert inventory["_meta"]["hostvars"]["web"]["proxmox_vmid"] == running
    assert set(inventory["proxmox_nodes"]["hosts"]) == {"pve1", "pve2", "pve3"}
    assert _refused(lab) == []


def test_proxmoxers_own_helpers_wait_for_tasks_and_upload_files(
    lab: RunningLab, api: Client, vm: int, tmp_path: Path
) -> None:
    user, _, rest = lab.token.partition("!")
    name, _, value = rest.partition("=")
    proxmox = ProxmoxAPI(
        lab.host, port=lab.port, user=user, token_name=name, token_value=value, verify_ssl=str(lab.ca_file)
    )

    upid = proxmox.nodes("pve1").qemu(vm).status.start.post()
    assert Tasks.decode_upid(upid)["type"] == "qmstart"
    assert Tasks.blocking_status(proxmox, upid, timeout=patience(30))["exitstatus"] == "OK"
    assert Tasks.decode_log(proxmox.nodes("pve1").tasks(upid).log.get()).endswith("TASK OK")

    image = tmp_path / "tiny.iso"
    image.write_bytes(bytes(4096))
    files = Files(proxmox, "pve1", "local")
    assert files.upload_local_file_to_storage(str(image))["exitstatus"] == "OK"
    assert "local:iso/tiny.iso" in [item["volid"] for item in proxmox.nodes("pve1").storage("local").content.get()]
    assert _refused(lab) == []
