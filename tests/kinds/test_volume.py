"""What is known of a volume goes into the record and comes back, and each phase says whether it is there."""

import pytest

from nixops_proxmox.kinds.volume.facts import Volume, VolumeFacts, VolumePhase
from nixops_proxmox.kinds.volume.table import NOT_YET, THERE


def test_facts_come_back_as_they_were_written() -> None:
    facts = VolumeFacts(serial="s", size=1 << 30, slot="scsi1", errand={"what": "Grow the volume"})
    assert facts.to_json() == {"serial": "s", "size": 1 << 30, "slot": "scsi1", "errand": {"what": "Grow the volume"}}
    assert VolumeFacts.from_json(facts.to_json()) == facts
    assert VolumeFacts.from_json({}) == VolumeFacts()


@pytest.mark.parametrize("wrong", [{"colour": "red"}, {"size": "1"}, {"size": True}, {"errand": "x"}])
def test_what_no_record_says_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        VolumeFacts.from_json(wrong)


def test_a_phase_is_of_a_volume_that_is_there_or_of_one_that_is_not() -> None:
    assert {*NOT_YET, *THERE, VolumePhase.LOST} == set(VolumePhase)
    assert Volume("demo", "data").moved(VolumePhase.PARKED, VolumeFacts(serial="s")).phase in THERE
