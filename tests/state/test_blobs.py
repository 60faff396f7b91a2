"""Whole files of others, and the locks on them."""

from dataclasses import replace

import pytest

from nixops_proxmox.errors import Locked, StateError
from nixops_proxmox.state import State
from nixops_proxmox.state.blobs import Blob, BlobStore, Overtaken
from nixops_proxmox.state.database import writing
from nixops_proxmox.state.holder import this_process
from nixops_proxmox.state.locks import LockStore
from nixops_proxmox.state.schema import blobs

CONTENT = bytes(range(256)) * 300


def test_what_is_written_is_read_with_its_version(state: State) -> None:
    store = BlobStore(state)
    assert store.read("nixops") == Blob()
    assert store.write("nixops", CONTENT, after=0) == 1
    assert store.write("nixops", b"", after=1) == 2
    found = store.read("nixops")
    assert (found.version, found.content) == (2, b"")
    store.forget("nixops")
    assert store.read("nixops") == Blob()


def test_nobody_writes_over_what_he_has_not_read(state: State) -> None:
    store = BlobStore(state)
    store.write("nixops", b"mine", after=0)
    for after in (0, 2):
        with pytest.raises(Overtaken, match="somebody else"):
            store.write("nixops", b"theirs", after=after)
    assert store.read("nixops").content == b"mine"


def test_files_do_not_meet(state: State) -> None:
    store = BlobStore(state)
    store.write("one", b"1", after=0)
    store.write("two", b"2", after=0)
    assert (store.read("one").content, store.read("two").content) == (b"1", b"2")


def test_a_damaged_file_is_not_handed_out(state: State) -> None:
    BlobStore(state).write("nixops", CONTENT, after=0)
    with writing(state.engine) as connection:
        connection.execute(blobs.update().values(content=b"other"))
    with pytest.raises(StateError, match="damaged"):
        BlobStore(state).read("nixops")


def test_one_holds_the_lock_and_is_named(state: State) -> None:
    locks = LockStore(state, hint="nixops unlock")
    token = locks.take("nixops", "nixops deploy")
    with pytest.raises(Locked, match=r"'nixops' is locked by .* for 'nixops deploy' since") as refused:
        locks.take("nixops", "nixops destroy")
    assert refused.value.hint == "nixops unlock"
    locks.take("other", "nixops deploy")
    locks.release("nixops", token)
    locks.release("nixops", token)
    locks.take("nixops", "nixops destroy")


def test_the_lock_of_a_process_that_is_gone_is_taken(state: State) -> None:
    gone = replace(this_process(), pid_started="1")
    LockStore(state, who=lambda: gone).take("nixops", "nixops deploy")
    LockStore(state).take("nixops", "nixops deploy")


def test_a_lock_of_another_host_is_only_broken_by_word(state: State) -> None:
    far = replace(this_process(), host="far", machine_id="far")
    token = LockStore(state, who=lambda: far).take("nixops", "nixops deploy")
    with pytest.raises(Locked, match="@far"):
        LockStore(state).take("nixops", "nixops deploy")
    held = LockStore(state).break_lock("nixops")
    assert held is not None and (held.token, held.purpose) == (token, "nixops deploy")
    mine = LockStore(state).take("nixops", "nixops deploy")
    LockStore(state).release("nixops", token)  # the other one comes back: it has nothing to release
    with pytest.raises(Locked):
        LockStore(state).take("nixops", "nixops deploy")
    assert mine != token and LockStore(state).break_lock("nothing") is None


def test_a_lock_is_proven_until_somebody_breaks_it(state: State) -> None:
    locks = LockStore(state)
    token = locks.take("nixops", "nixops deploy")
    locks.take("other", "nixops deploy")
    locks.prove("nixops", token)
    locks.break_lock("nixops")
    with pytest.raises(Locked, match="somebody else has taken the lock of 'nixops' from this run") as broken:
        locks.prove("nixops", token)
    assert "before you run it again" in broken.value.hint
    LockStore(state).take("nixops", "nixops destroy")
    with pytest.raises(Locked) as taken:
        locks.prove("nixops", token)
    assert "has it for 'nixops destroy' since" in taken.value.hint
