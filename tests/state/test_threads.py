from concurrent.futures import ThreadPoolExecutor

from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.state import State


def test_many_threads_write_one_journal(state: State) -> None:
    deployment = state.deployment("net")

    def deploy(number: int) -> None:
        machine = Machine("net", f"m{number}")
        for step in range(4):
            attempt = journal.begin(machine, f"step {step}", Phase.READY)
            machine = machine.moved(Phase.READY, Facts(vmid=step))
            journal.note(attempt, machine)
            journal.commit(attempt, machine)

    with deployment.lease() as lease, ThreadPoolExecutor(24) as threads:
        journal = deployment.journal(lease)
        list(threads.map(deploy, range(48)))
    assert len(deployment.machines()) == 48
    assert len(deployment.history()) == 48 * 4
