"""What each deployed system consisted of is kept once, and a damaged list is named."""

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from nixops_proxmox.errors import StateError
from nixops_proxmox.model import SystemContents
from nixops_proxmox.state import open_state
from nixops_proxmox.state.blobs import BlobStore
from nixops_proxmox.state.systems import blob_name

SYSTEM = "/nix/store/33333333333333333333333333333333-nixos-system-web-25.11"
PATHS = {SYSTEM: 1234, "/nix/store/22222222222222222222222222222222-openssl-3.5.4": 1 << 40}
CONTENTS = SystemContents(PATHS, {"kernel": "/nix/store/11111111111111111111111111111111-linux-6.12.55/bzImage"})


def test_it_outlives_the_process_and_is_written_once(tmp_path: Path) -> None:
    url = str(tmp_path / "state.db")
    with open_state(url) as state:
        record = state.deployment("shop")
        assert record.find_contents(SYSTEM) is None
        record.keep_contents(SYSTEM, CONTENTS)
        record.keep_contents(SYSTEM, SystemContents({}))
    with open_state(url) as state:
        assert state.deployment("shop").find_contents(SYSTEM) == CONTENTS


def test_machines_that_get_the_same_system_at_once_do_not_stand_in_each_others_way(tmp_path: Path) -> None:
    with open_state(str(tmp_path / "state.db")) as state, ThreadPoolExecutor(8) as pool:
        record = state.deployment("shop")
        together = Barrier(8)

        def keep(_: int) -> None:
            together.wait()
            record.keep_contents(SYSTEM, CONTENTS)

        assert list(pool.map(keep, range(8))) == [None] * 8
        assert record.find_contents(SYSTEM) == CONTENTS


@pytest.mark.parametrize(
    "content",
    [
        b"no zlib",
        *(
            zlib.compress(text)
            for text in (b"no json", b'{"a": 1}', b'{"paths": {"/x": -1}, "boots": {}}', b'{"paths": {}, "boots": [1]}')
        ),
    ],
)
def test_a_damaged_one_is_named(tmp_path: Path, content: bytes) -> None:
    with open_state(str(tmp_path / "state.db")) as state:
        BlobStore(state).write(blob_name(SYSTEM), content, after=0)
        with pytest.raises(StateError, match="the contents of"):
            state.deployment("shop").find_contents(SYSTEM)
