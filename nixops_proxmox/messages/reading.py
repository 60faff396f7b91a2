"""Where the documents explain an error, for those whose hint is not all that there is to say.

An error has no place here if a page on its family would only lead astray. The site's page of all messages has a section
for each class.
"""

from collections.abc import Iterable, Mapping
from itertools import islice

from nixops_proxmox import errors
from nixops_proxmox.errors import DeployError
from nixops_proxmox.messages.lines import Line

DOCS = "docs/"  # beside the program's source
MOST = 3  # places that one report names

PLACES: Mapping[type[DeployError], str] = {
    errors.Locked: "debugging.md#another-run-holds-it",
    errors.Unrecorded: "debugging.md#it-is-not-in-the-record",
    errors.OnOtherHypervisor: "moving.md",
    errors.PveUnreachable: "first-hour.md#when-something-is-in-the-way",
    errors.NotAuthenticated: "first-hour.md#when-something-is-in-the-way",
    errors.PermissionDenied: "debugging.md#permission-denied",
    errors.NoPlace: "plan.md#why",
    errors.VmidTaken: "debugging.md#the-vmid-belongs-to-another-guest",
    errors.AgentSilent: "debugging.md#no-answer-from-the-guest-agent",
    errors.NoAgentDevice: "debugging.md#no-answer-from-the-guest-agent",
    errors.JobStillRunning: "debugging.md#in-the-guest",
    errors.WrongDisk: "debugging.md#a-disk-is-not-the-declared-one",
    errors.NoEndpoint: "debugging.md#no-address-answered-as-this-machine",
    errors.SshUnreachable: "debugging.md#no-address-answered-as-this-machine",
    errors.HostKeyChanged: "debugging.md#host-key-changed",
    errors.HookFailed: "rolling.md#commands-around-a-change",
    errors.RouterCutOff: "routing.md#a-change-that-cuts-us-off",
    errors.BuildFailed: "debugging.md#nix-errors",
    errors.EvaluationFailed: "debugging.md#nix-errors",
    errors.SwitchRefused: "debugging.md#it-takes-effect-only-after-a-reboot",
    errors.NotConfirmed: "probation.md#what-becomes-of-it",
}


def find_place(error: DeployError | None) -> str | None:
    """`docs/debugging.md#host-key-changed`, or None."""
    place = PLACES.get(type(error)) if error is not None else None
    return f"{DOCS}{place}" if place else None


def read_on(found: Iterable[DeployError]) -> list[Line]:
    """The last words of a report: a line for each place, at most three."""
    places = dict.fromkeys(place for error in found if (place := find_place(error)) is not None)
    return [Line(f"more: {place}", "dim") for place in islice(places, MOST)]
