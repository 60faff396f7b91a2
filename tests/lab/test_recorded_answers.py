"""The lab against 908 answers of a real PVE 8.4: statuses, reason phrases, error texts, task logs, bodies."""

import sys
from pathlib import Path

import pytest

from nixops_proxmox.lab.testing import start_lab
from tests.lab.replay import Replay, differences, load, storages

RECORDING = Path(__file__).parents[2] / "../shared/facts/real-pve-8.4-responses.json"
# Sent, so that the state is right, but not compared: what the recording host had that no node has.
EXCLUDED = {
    "auditor: node status": "processor, kernel and disk sizes of the recording host",
    "create: efidisk0 / task status": "the recording host had no OVMF files",
    "create: efidisk0 / task log": "the recording host had no OVMF files",
    "create: efidisk0 / config": "the recording host had no OVMF files",
    "node capabilities qemu machines": "a file of pve-qemu was missing on the recording host",
    "node hosts": "names of the recording host",
}
# The next record was sent while this task was still running.
LEFT_RUNNING = {
    "shutdown timeout=4 (guest ignores)",
    "shutdown timeout=60",
    "start while shutdown holds lock",
    "vncproxy stopped",
}
WHILE_RUNNING = range(404, 411)


@pytest.mark.slow
@pytest.mark.skipif(not RECORDING.exists(), reason="the recorded answers are not part of the project")
def test_the_lab_answers_what_a_real_node_answered(capsys: pytest.CaptureFixture[str]) -> None:
    records = load(RECORDING)
    wrong, compared = [], 0
    with start_lab(nodes=("pve1",), storages=storages()) as lab:
        replay = Replay(lab, records)
        for index, record in enumerate(records):
            replay.arrange(index, record)
            answer = replay.send(record)
            replay.learn(record, answer)
            if record["label"] not in LEFT_RUNNING and index not in WHILE_RUNNING:
                lab.settle()
            if record["label"] in EXCLUDED:
                continue
            compared += 1
            found = differences(record, answer)
            if found:
                wrong.append(f"{index} [{record['label']}] " + "; ".join(found)[:400])
    with capsys.disabled():
        excluded = len(records) - compared
        sys.stderr.write(
            f"\nrecorded: {len(records)}, compared: {compared}, excluded: {excluded}, different: {len(wrong)}\n"
        )
    assert compared > 890
    assert not wrong, "\n".join(wrong)
