"""How the command line calls what texts recommend."""

from collections.abc import Sequence

from nixops_proxmox.spelling import Verb, on_the_line, spell


def spelling(verb: Verb, words: Sequence[str]) -> str:
    if verb is Verb.BREAK_LOCK:
        return "add --break-lock"
    if verb in (Verb.MAKE_ANOTHER, Verb.CONFIRM, Verb.OUTSIDE_WINDOWS):
        return f"add --{verb.value}"
    return on_the_line(verb, *words)


def spelled(text: str) -> str:
    return spell(text, spelling)
