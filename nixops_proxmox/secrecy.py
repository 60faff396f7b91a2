"""One register of this process's secrets. It blanks them in all text, wherever the text comes from.

The register belongs to the process because what it guards against does, too: a secret that one part has learned comes
back in the text of another (a proxy echoes our headers, a task's log a parameter), which has never heard of it.
Secrets come in where they are learned, and nothing reads them out again.
"""

import json
import re
import threading
from urllib.parse import quote

BLANK = "***"
SHORTEST = 6  # characters; a shorter "secret" is in every other word
SAFE_INSIDE = 8  # shorter ones count only as whole words

_END = r"[^\s\"',;\\]+"
_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), BLANK),
    (re.compile(r"(?m)^(?:[A-Za-z0-9+/=]{1,76}\r?\n){1,100}-----END [A-Z ]*PRIVATE KEY-----"), BLANK),  # only its end
    (re.compile(r"\bb3BlbnNzaC1rZXktdjEA[A-Za-z0-9+/=]*"), BLANK),  # how a key in OpenSSH's format begins
    (re.compile(rf"(PVEAPIToken(?:=|%3[Dd])[^\s=\"',!%]+(?:!|%21)[^\s=\"',%]+(?:=|%3[Dd])){_END}"), rf"\1{BLANK}"),
    (re.compile(rf"(PVEAuthCookie(?:=|%3[Dd])){_END}"), rf"\1{BLANK}"),
    (re.compile(r"(PVE[A-Z]*(?::|%3[Aa])\S*?[0-9A-F]{8}(?:::|%3[Aa]%3[Aa]))[A-Za-z0-9+/=%]{8,}"), rf"\1{BLANK}"),
    (re.compile(rf"(?i)(CSRFPreventionToken[\"']?\s*[:=]\s*[\"']?){_END}"), rf"\1{BLANK}"),
    (re.compile(r"(?i)\b((?:Basic|Bearer)\s+)[A-Za-z0-9+/=._~-]{16,}"), rf"\1{BLANK}"),
    (re.compile(r"(?<=://)[^/@\s]+:[^/@\s]+(?=@)"), BLANK),  # https://user:password@host
    (re.compile(r"(?i)(?<=[?&])((?:access[_-]?)?token|password|secret)=[^&\s]+"), BLANK),
    (re.compile(r"(?i)(?<=access-tokens)[ =].*"), BLANK),
)
_RUN = re.compile(r"[A-Za-z0-9+/]{24,}")  # of a key's inside


class Register:
    """The secrets of a process. Many threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._words: re.Pattern[str] | None = None
        self._keys: tuple[str, ...] = ()  # lines of private keys

    def learn(self, *secrets: str) -> None:
        """Tokens, passwords, tickets. Empty ones and those that are too short to be told from words are left out."""
        with self._lock:
            known = self._known | {secret for secret in secrets if len(secret) >= SHORTEST}
            if known != self._known:
                self._known, self._words = known, _pattern(known)

    def learn_key(self, pem: str) -> None:
        """A private key: each line of its inside, since logs are told line by line."""
        lines = tuple(line for line in pem.splitlines() if line and not line.startswith("-----"))
        with self._lock:
            self._keys = tuple(dict.fromkeys((*self._keys, *lines)))

    def redact(self, text: str) -> str:
        """The text with everything blanked that is a secret we know, or is spelled as only secrets are."""
        for pattern, blank in _PATTERNS:
            text = pattern.sub(blank, text)
        if self._words is not None:
            text = self._words.sub(BLANK, text)
        return _RUN.sub(self._without_key, text) if self._keys else text

    def _without_key(self, run: re.Match[str]) -> str:
        return BLANK if any(key.rstrip("=") in run[0] or run[0] in key for key in self._keys) else run[0]


def _pattern(secrets: frozenset[str]) -> re.Pattern[str]:
    spelled = {form for secret in secrets for form in _spellings(secret)}
    forms = (
        re.escape(form) if len(form) >= SAFE_INSIDE else rf"(?<!\w){re.escape(form)}(?!\w)"
        for form in sorted(spelled, key=len, reverse=True)
    )
    return re.compile("|".join(forms))


def _spellings(secret: str) -> set[str]:
    """The secret itself, and as it looks in a URL, a form and JSON."""
    return {secret, quote(secret, safe=""), quote(secret), secret.replace("%", "%25"), json.dumps(secret)[1:-1]}


KNOWN = Register()


def learn(*secrets: str) -> None:
    KNOWN.learn(*secrets)


def learn_key(pem: str) -> None:
    KNOWN.learn_key(pem)


def redact(text: str) -> str:
    return KNOWN.redact(text)
