"""The last lines of a machine's log, through the guest agent: PVE itself keeps no console's output."""

from nixops_proxmox.compose import Parts
from nixops_proxmox.model import Machine
from nixops_proxmox.texts import script_marker

LINES = 200
SCRIPT = f"""{script_marker("read-log")}\
journalctl --boot --no-pager --lines={LINES} 2>/dev/null && exit 0
dmesg 2>/dev/null | tail -n {LINES}
for log in /var/log/*.log /var/log/services/*.log; do
  [ -s "$log" ] && echo "==> $log" && tail -n {LINES} "$log"
done
exit 0
"""


def read_log(machine: Machine, parts: Parts) -> str:
    """Raises AgentSilent if the agent does not answer."""
    agent = parts.agent(machine)
    agent.wait_for_agent(15)
    return agent.run_script(SCRIPT).stdout
