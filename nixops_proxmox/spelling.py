"""Commands that texts recommend: a text names the verb, and each door spells it in its own way.

`f"{command(Verb.DESTROY, 'web')} forgets it"` becomes "`nixops-proxmox destroy web` forgets it" on the command line.
"""

import re
import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum

PROGRAM = "nixops-proxmox"  # the command line
PROFILE_VARIABLE = "NIXOPS_PROXMOX_PROFILE"  # names the hypervisor for every door


class Verb(StrEnum):
    """What can be recommended, named as on the command line."""

    PLAN = "plan"
    DEPLOY = "deploy"
    DESTROY = "destroy"
    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    REINSTALL = "reinstall"
    UNLOCK = "unlock"
    RECOVERY_TEST = "recovery-test"
    RECOVERY_ROTATE = "recovery-rotate"
    CONSOLE = "console"
    SSH = "ssh"
    CHECK = "check"
    KEYS_SEND = "keys-send"
    SNAPSHOT_ROLLBACK = "snapshot-rollback"
    STATUS = "status"
    HISTORY = "history"
    RECOVER = "recover"
    RESTORE = "restore"
    MOVE = "move"
    DOCTOR = "doctor"
    INIT = "init"
    LIFECYCLE = "lifecycle"
    ISO_UPLOAD = "iso-upload"
    LAB_UP = "lab-up"
    VOLUME_ADOPT = "volume-adopt"
    VOLUME_DELETE = "volume-delete"
    VOLUME_DETACH = "volume-detach"
    VOLUME_LIST = "volume-list"
    BREAK_LOCK = "break-lock"  # no verb of its own: the same command again, and it takes the lock
    CONFIRM = "confirm"  # so, too: it changes machines of a hypervisor that asks for this word
    OUTSIDE_WINDOWS = "outside-windows"  # so, too: it changes machines outside of their hypervisor's windows
    MAKE_ANOTHER = "make-another"  # so, too: it makes a machine though an unrecorded VM bears its mark


Spelling = Callable[[Verb, Sequence[str]], str]
"""How a door calls a verb with these words (machines, and the command line's flags): all that is to be read."""

_OPEN, _CLOSE = "⟨", "⟩"  # readable, should a text ever be shown as it is
_WORDS = r"(?: [A-Za-z0-9_.:/=@+-]+)*"
_OURS = secrets.token_hex(4)  # of this process: texts hold strangers' words too, and they cannot know it
_COMMAND = re.compile(f"{_OPEN}{_OURS} ({'|'.join(Verb)})({_WORDS}){_CLOSE}")
_STORED = re.compile(f"{_OPEN}({'|'.join(Verb)})({_WORDS}){_CLOSE}")


def command(verb: Verb, *words: str) -> str:
    """The command in a text. `words`: machines, and the command line's flags."""
    return f"{_OPEN}{' '.join([_OURS, verb.value, *words])}{_CLOSE}"


def on_the_line(verb: Verb, *words: str, common: Sequence[str] = ()) -> str:
    """As the command line spells it, which is there beside every other door. `common`: options before the verb."""
    return f"`{' '.join([PROGRAM, *common, *verb.value.split('-'), *words])}`"


def spell(text: str, spelling: Spelling) -> str:
    """The text as a door's user reads it."""
    return _COMMAND.sub(lambda found: spelling(Verb(found[1]), found[2].split()), text)


def stored(text: str) -> str:
    """The text for another process, with a mark that every process knows and that strangers' words do not have."""
    text = _STORED.sub(lambda found: f"<{found[0][1:-1]}>", text)
    return _COMMAND.sub(lambda found: f"{_OPEN}{found[1]}{found[2]}{_CLOSE}", text)


def recalled(text: str) -> str:
    """A stored text, to be spelled."""
    return _STORED.sub(lambda found: command(Verb(found[1]), *found[2].split()), text)
