"""What MkDocs asks us while it builds the site (scripts/site): pages that are not in docs/, and links that leave docs/.

The README is the first page. The changelog, the examples and every file that a page links to are pages of their own.
The page of all messages is read from the code. Nothing on the site is fetched from elsewhere.
"""

import posixpath
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from hints import GAP, Hint, error_classes, find_hints  # noqa: E402  # MkDocs loads this file by its path
from pictures import with_pictures  # noqa: E402

from nixops_proxmox.messages.reading import PLACES  # noqa: E402

PAGES = {  # by what they are in the repository
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
}
TITLES = {"index.md": "Overview", "changelog.md": "Changelog", "messages.md": "All messages"}
SHIM = "https://unpkg.com/iframe-worker/shim"
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"(?ms)^( *)```.*?^\1```$")
LANGUAGES = {".nix": "nix", ".py": "python", ".sh": "sh", ".toml": "toml", ".yml": "yaml", ".json": "json"}


# --- what MkDocs calls ----------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    pages = {page: at_home((ROOT / source).read_text("utf-8"), source, page) for source, page in PAGES.items()}
    pages["messages.md"] = messages_page(find_hints())
    for source in sorted(linked_files()):
        pages[page_of(source)] = file_page(source)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    source = page.file.src_uri
    if source in TITLES:
        page.title = TITLES[source]
    text = markdown if source in PAGES.values() else at_home(markdown, f"docs/{source}", source)
    return with_pictures(text)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """The theme takes one script for pages that are files from elsewhere: we have our own."""
    return output.replace(SHIM, "../" * page.file.src_uri.count("/") + "worker.js")


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    return output_content.replace(SHIM, "/worker.js") if template_name == "404.html" else output_content


def on_post_build(config: Any) -> None:
    """What the theme's script would fetch if a page had a need for it, which none has, it cannot fetch."""
    for path in Path(config["site_dir"]).glob("assets/javascripts/bundle.*.js"):
        path.write_text(re.sub(r"https://unpkg\.com/", "unavailable:", path.read_text("utf-8")), "utf-8")


# --- links ----------------------------------------------------------------------------------------------------------


def at_home(text: str, source: str, page: str) -> str:
    """The text of a file of the repository, with links that lead to pages of the site."""

    def turn(found: re.Match[str]) -> str:
        target, mark, anchor = found["target"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        way = posixpath.relpath(page_of(there), posixpath.dirname(page) or ".")
        return f"{found['image']}[{found['text']}]({way}{mark}{anchor})"

    return outside_fences(text, lambda part: LINK.sub(turn, part))


def outside_fences(text: str, change: Any) -> str:
    ends = [(found.start(), found.end()) for found in FENCE.finditer(text)]
    parts, at = [], 0
    for begin, end in ends:
        parts += [change(text[at:begin]), text[begin:end]]
        at = end
    return "".join([*parts, change(text[at:])])


def page_of(source: str) -> str:
    """The page of the site that shows a file or a folder of the repository."""
    if source in PAGES:
        return PAGES[source]
    if (ROOT / source).is_dir():
        return page_of(f"{source}/README.md")
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    return f"files/{source}.md"


def linked_files() -> Iterator[str]:
    """Files of the repository that pages link to, and that are no pages themselves."""
    sources = [*PAGES, *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
    for source in sources:
        text = FENCE.sub("", (ROOT / source).read_text("utf-8"))
        for found in LINK.finditer(text):
            target = found["target"].partition("#")[0]
            there = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
            if (
                target
                and not re.match(r"[a-z]+:", target)
                and (ROOT / there).is_file()
                and page_of(there)[:6] == "files/"
            ):
                yield there


def file_page(source: str) -> str:
    path = ROOT / source
    text = path.read_text("utf-8")
    fence = "`" * (max((len(run) for run in re.findall(r"`{3,}", text)), default=2) + 1)
    return f"# {source}\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


# --- messages -------------------------------------------------------------------------------------------------------

HEAD = f"""\
# All messages

Every error that has a hint, by the part that it belongs to. It is read from the program's code, so no hint is missing.
`{GAP}` stands for a name, a number or another program's words. The search finds a message by its words.

If your message is not here, read [When something goes wrong](debugging.md).
"""

_FAMILIES: dict[str, tuple[str, str]] = {  # a title; and where to read on, if the error itself does not say it
    "ConfigError": ("A profile, an argument or the environment", "profiles.md"),
    "SpecError": ("The description", "options.md"),
    "StateError": ("The record", "lifecycle.md"),
    "Locked": ("Another run is at work", ""),
    "NoPath": ("What was asked does not lead anywhere from here", "lifecycle.md"),
    "NotBegun": ("Others failed first", "debugging.md#first-run-the-same-command-again"),
    "NeedsPermission": ("It needs your permission", "plan.md"),
    "Unrecorded": ("The cluster has it, and the record has not", ""),
    "OnOtherHypervisor": ("It is on another hypervisor", ""),
    "StateTooNew": ("The record is of a newer version", "debugging.md#where-things-are"),
    "PveError": ("Proxmox VE", "debugging.md#see-more"),
    "PveUnreachable": ("Proxmox VE does not answer", ""),
    "PveOutcomeUnknown": ("An answer of Proxmox VE was lost", "debugging.md#first-run-the-same-command-again"),
    "PveBusy": ("Proxmox VE is busy", "debugging.md#first-run-the-same-command-again"),
    "PveRefused": ("Proxmox VE refused", "rights.md"),
    "NotAuthenticated": ("Proxmox VE does not know us", ""),
    "PermissionDenied": ("A right is missing", ""),
    "NotFound": ("Something is not there", "debugging.md#see-more"),
    "BadParameter": ("Proxmox VE refused a value", "options.md"),
    "NoPlace": ("No node has room", ""),
    "VmidTaken": ("The VMID belongs to another guest", ""),
    "TaskFailed": ("A task of Proxmox VE failed", "debugging.md#see-more"),
    "TaskStillRunning": ("A task of Proxmox VE still runs", "debugging.md#first-run-the-same-command-again"),
    "GuestError": ("The guest", "debugging.md#in-the-guest"),
    "AgentSilent": ("The guest agent does not answer", ""),
    "NoAgentDevice": ("The VM has no agent device", ""),
    "AgentRefused": ("The guest agent refused", "debugging.md#by-message"),
    "CommandFailed": ("A command in the guest failed", "debugging.md#in-the-guest"),
    "JobStillRunning": ("A job in the guest still runs", ""),
    "GuestLost": ("The guest was restarted", "debugging.md#first-run-the-same-command-again"),
    "Unwell": ("The machine is not well", "rolling.md"),
    "WrongDisk": ("A disk is not the declared one", ""),
    "NoEndpoint": ("No address answered", ""),
    "SshError": ("SSH", "debugging.md#by-message"),
    "SshUnreachable": ("SSH: no connection", ""),
    "SshRefused": ("SSH: our key was refused", "debugging.md#by-message"),
    "HostKeyChanged": ("SSH: somebody else answered", ""),
    "ConnectionLost": ("SSH: the connection broke", "debugging.md#first-run-the-same-command-again"),
    "HookFailed": ("One of your commands failed", ""),
    "RouterError": ("The router", "routing.md"),
    "RouterUnreachable": ("The router does not answer", "routing.md"),
    "RouterOutcomeUnknown": ("An answer of the router was lost", "routing.md"),
    "RouterCutOff": ("A change of the router cut us off", ""),
    "NixError": ("Nix", "many-machines.md"),
    "NixMissing": ("There is no Nix", "index.md#on-your-proxmox"),
    "EvaluationFailed": ("The network cannot be evaluated", ""),
    "BuildFailed": ("A system cannot be built", ""),
    "CopyFailed": ("A system cannot be copied", "many-machines.md"),
    "ActivationFailed": ("A system cannot be activated", "probation.md"),
    "SwitchRefused": ("NixOS cannot switch while the machine runs", ""),
    "NotConfirmed": ("A system on probation was not confirmed", ""),
    "BootWanted": ("Something waits for a boot", "changes.md"),
}
FAMILIES = {  # what to say of all errors of a class, and where to read on
    name: (title, page or PLACES[error_classes()[name]]) for name, (title, page) in _FAMILIES.items()
}


def messages_page(hints: Sequence[Hint]) -> str:
    """A section for each class of errors, by exit status; below it a heading for each message, and what to try."""
    classes = error_classes()
    families = sorted({one.family for one in hints}, key=lambda name: (classes[name].exit_status, name))
    parts = [HEAD]
    for family in families:
        title, more = FAMILIES[family]
        status = classes[family].exit_status
        parts.append(f"## {title} {{ #{_slug(family)} }}\n\nExit status {status}. Read on: [{_name(more)}]({more}).\n")
        seen: dict[str, list[Hint]] = {}
        for one in hints:
            if one.family == family:
                seen.setdefault(one.message, []).append(one)
        parts += [_message(message, theirs) for message, theirs in seen.items()]
    return "\n".join(parts)


def _message(message: str, hints: Sequence[Hint]) -> str:
    first, *rest = message.strip().splitlines() or [GAP]
    lines = [_plain(" ".join([first, *rest]))]
    lines += [f":   {_linked(text)}" for text in dict.fromkeys(one.text for one in hints)]
    verbs = list(dict.fromkeys(verb for one in hints for verb in one.verbs))
    links = [f"[`{verb.replace('-', ' ')}`](cli.md#{anchor})" for verb in verbs if (anchor := anchor_of(verb))]
    if links:
        lines[-1] += f" (see {', '.join(links)})"
    return "\n".join([*lines, ""])


def anchor_of(verb: str) -> str:
    """Where the command line's page has it. Empty for words that are no verbs but flags: `confirm`."""
    from nixops_proxmox.cli import VERBS

    first = verb.partition("-")[0]
    return f"nixops-proxmox-{verb}" if first in VERBS else ""


def _plain(text: str) -> str:
    """As it is, whatever Markdown would make of it."""
    return re.sub(r"([\\`*_{}\[\]<>#|~^=+!-])", r"\\\1", " ".join(text.split())).replace("\\-", "-")


def _linked(text: str) -> str:
    """The hint, with its commands and options as code."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def _slug(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def _name(page: str) -> str:
    """A page's own title."""
    file, _, anchor = page.partition("#")
    path = ROOT / next((source for source, there in PAGES.items() if there == file), f"docs/{file}")
    text = path.read_text("utf-8")
    heads = [
        (re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-"), head) for head in re.findall(r"(?m)^#+ (.+)$", text)
    ]
    return next((head for slug, head in heads if not anchor or slug == anchor), file)
