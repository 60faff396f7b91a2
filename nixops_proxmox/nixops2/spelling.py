"""How NixOps 2 spells what texts recommend: its own commands if it has them, else `nixops proxmox …`."""

from collections.abc import Mapping, Sequence

from nixops_proxmox.options import SAID
from nixops_proxmox.spelling import Verb, on_the_line, spell

COMMANDS: Mapping[Verb, str] = {
    Verb.DEPLOY: "deploy",
    Verb.DESTROY: "destroy",
    Verb.START: "start",
    Verb.STOP: "stop",
    Verb.REBOOT: "reboot",
    Verb.RESTORE: "restore",
    Verb.STATUS: "check",
    Verb.CHECK: "check",
    Verb.KEYS_SEND: "send-keys",
}
SHARED = (
    *(Verb.PLAN, Verb.HISTORY, Verb.RECOVER, Verb.DOCTOR, Verb.LIFECYCLE, Verb.MOVE, Verb.CONSOLE),
    *(Verb.UNLOCK, Verb.REINSTALL),
    *(Verb.VOLUME_LIST, Verb.VOLUME_DETACH, Verb.VOLUME_DELETE, Verb.VOLUME_ADOPT),
)


def spelling(verb: Verb, words: Sequence[str]) -> str:
    if verb is Verb.BREAK_LOCK:
        return "say `nixops unlock`"
    if verb in SAID:
        return f"say `{SAID[verb]}=1 nixops deploy`"
    if verb is Verb.SSH:
        return f"`nixops ssh {' '.join(words)}`"
    if verb in SHARED:
        return f"`{' '.join(['nixops proxmox', *verb.value.split('-'), *words])}`"
    if verb not in COMMANDS:
        return on_the_line(verb, *words)  # it needs no state, and is installed beside
    if verb is Verb.DEPLOY and "--remove" in words:
        return "`nixops deploy --kill-obsolete`"
    flags = [word for word in words if word.startswith("--") and verb is not Verb.STATUS]
    machines = [word for word in words if not word.startswith("--")]
    include = ["--include", *machines] if machines else []
    if verb is Verb.DESTROY and "--forget" in flags:
        return f"`{' '.join(['nixops delete-resources', *include])}`"
    return f"`{' '.join(['nixops', COMMANDS[verb], *flags, *include])}`"


def spelled(text: str) -> str:
    return spell(text, spelling)
