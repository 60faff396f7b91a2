"""A test's commands hear signals, however the tests were started."""

import signal
import subprocess
import sys

from tests.conftest import hear_signals_in_commands

ASK = "import signal; print([one.name for one in signal.Signals if signal.getsignal(one) is signal.SIG_IGN])"


def test_a_command_ignores_no_signal_that_was_ignored_here() -> None:
    heard = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in heard}
    try:
        hear_signals_in_commands()
        done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not {number.name for number in heard} & set(done.stdout.split("'")), done.stdout
