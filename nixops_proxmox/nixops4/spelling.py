"""How a user of NixOps 4 does what texts recommend: by applying or, if that is not enough, with the command line."""

from collections.abc import Callable, Sequence
from functools import partial

from nixops_proxmox.options import SAID
from nixops_proxmox.spelling import Verb, on_the_line, spell

APPLY = "`nixops4 apply`"
BREAK_LOCK = "NIXOPS_PROXMOX_BREAK_LOCK"
ALLOW_RECREATE = "NIXOPS_PROXMOX_ALLOW_RECREATE"  # an empty disk in place of one that was detached
STATELESS = (Verb.DOCTOR, Verb.INIT, Verb.LIFECYCLE, Verb.ISO_UPLOAD, Verb.LAB_UP)


def spelling(deployment: str, verb: Verb, words: Sequence[str]) -> str:
    """`deployment`: as the command line calls the machines of the resource."""
    if verb is Verb.BREAK_LOCK:
        return f"apply once with {BREAK_LOCK}=1"
    if verb in SAID:
        return f"apply once with {SAID[verb]}=1"
    if verb is Verb.DEPLOY and "--allow-recreate" in words:
        return f"{APPLY} with {ALLOW_RECREATE}=1"
    if verb is Verb.DEPLOY:
        return f"{APPLY} with `allowReboot = true`" if "--allow-reboot" in words else APPLY
    where = [] if verb in STATELESS or "--uuid" in words else ["--deployment", deployment]
    return on_the_line(verb, *words, common=where)


def spelled_for(deployment: str) -> Callable[[str], str]:
    return partial(spell, spelling=partial(spelling, deployment))
