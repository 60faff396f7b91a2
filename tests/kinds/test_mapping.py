"""A resource mapping: what differs, and what is never touched."""

from dataclasses import replace

import pytest

from nixops_proxmox.errors import StateError
from nixops_proxmox.spec.mapping import MappingEntry
from tests.kinds.machine.cluster import Fuse
from tests.kinds.mapping_bench import GPU, THEIRS, MappingBench

OTHER = MappingEntry(node="pve2", path="0000:02:00.0", id="10de:1b80")


def test_rows_in_another_order_and_with_more_are_the_same() -> None:
    bench = MappingBench()
    bench.run(Fuse(), wanted=True, entries=(GPU, OTHER))
    made, entries = bench.api.there["pci", "gpu"], len(bench.record.entries)
    bench.api.there["pci", "gpu"] = replace(made, rows=(f"{OTHER.print()},iommugroup=4", GPU.print()))
    bench.run(Fuse(), wanted=True, entries=(GPU, OTHER))
    assert len(bench.record.entries) == entries, "there was nothing to do"


def test_a_row_by_hand_goes_and_one_that_is_missing_comes() -> None:
    bench = MappingBench()
    bench.run(Fuse(), wanted=True)
    made = bench.api.there["pci", "gpu"]
    bench.api.there["pci", "gpu"] = replace(made, rows=(OTHER.print(),))
    bench.run(Fuse(), wanted=True)
    assert bench.api.there["pci", "gpu"] == made


def test_a_mapping_of_somebody_else_is_left_alone() -> None:
    bench = MappingBench()
    with pytest.raises(StateError, match="not ours"):
        bench.run(Fuse(), wanted=True, mapping="theirs")
    bench.run(Fuse(), wanted=False, mapping="theirs")
    assert bench.api.there["pci", "theirs"] == THEIRS
