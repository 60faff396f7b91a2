"""A folder of answers by key. All of it may be deleted at any time. A file that cannot be read is no answer."""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNFINISHED = ".new"
ABANDONED = 3600.0  # seconds; no answer takes so long to write
MOST = 4000  # files; those that were not used for the longest time go first


@dataclass(frozen=True)
class Answer:
    """`said`: as JSON has it. `warnings`: what Nix warned of."""

    said: Any
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeptAnswers:
    folder: Path

    def find(self, key: str) -> Answer | None:
        file = self.folder / f"{key}.json"
        try:
            found = json.loads(file.read_bytes())
            os.utime(file)
        except (OSError, ValueError, RecursionError):
            return None
        match found:
            case {"said": said, "warnings": list(warnings)} if all(isinstance(one, str) for one in warnings):
                return Answer(said, tuple(warnings))
            case _:
                return None

    def keep(self, key: str, answer: Answer) -> None:
        """Whole or not at all, whenever we end. A disk that is full keeps nothing."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=UNFINISHED)  # mode 0600
            with os.fdopen(handle, "w") as file:
                json.dump({"said": answer.said, "warnings": answer.warnings}, file)
            Path(name).replace(self.folder / f"{key}.json")

    def sweep(self, most: int = MOST, now: Callable[[], float] = time.time) -> None:
        """Delete what is too much, and what a run left behind that was killed."""
        with contextlib.suppress(OSError):
            names = [file.name for file in self.folder.iterdir()]
            new = [name for name in names if name.endswith(UNFINISHED)]
            left = [file for age, file in self._ages(new, now()) if age > ABANDONED]
            too_many = sorted(self._ages(names, now()), reverse=True) if len(names) > most else []
            for file in (*left, *(file for _, file in too_many[: len(names) - most])):
                file.unlink(missing_ok=True)

    def _ages(self, names: Iterable[str], now: float) -> Iterator[tuple[float, Path]]:
        """Seconds since each was used."""
        for file in map(self.folder.joinpath, names):
            with contextlib.suppress(FileNotFoundError):
                yield now - file.stat().st_mtime, file
