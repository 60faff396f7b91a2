"""Encrypted disks: a key is never lost and never left behind, wherever a deploy breaks."""

import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest
from typing_extensions import override

from nixops_proxmox.cli.spelling import spelled as spell
from nixops_proxmox.errors import AgentSilent, CommandFailed, ConfigError, NeedsPermission, NoPath, StateError
from nixops_proxmox.kinds.machine.encrypted_layout import layout
from nixops_proxmox.kinds.machine.encryption import (
    SLOTS,
    Header,
    Use,
    digest_of,
    find_mismatch,
    lost_seal,
    luks_uuid,
    parse_header,
    refuse_other_header,
)
from nixops_proxmox.kinds.machine.plans import plan_deploy, plan_reinstall
from nixops_proxmox.kinds.machine.sealing import pin_of
from nixops_proxmox.kinds.machine.steps.encrypting import unlock
from nixops_proxmox.model import Change, Facts, Machine, Phase
from nixops_proxmox.spec import Encryption, InstallSpec, MachineSpec
from nixops_proxmox.spec.layouts import EMPTY, LAYOUTS, LayoutName
from tests.kinds.machine.cluster import SPEC, Bench, Guest
from tests.kinds.machine.test_crash import BANGS, IDS, broken, deployed, fresh

THUMBPRINT = "K0gjBt2QS6ZG8hvedtdpnXLQ6F9oXqG4l_aGD9KNYJg"
OTHER = "HgIyC5oxulGdF7cIataSTWVsYgOeSBzMk2n0IPLfL9Y"
FACTS = Facts(uuid="0f3c9a52-7d41-4a67-9d0e-3c5d1b8f2a10")


def encrypted(
    unlock: dict[str, object], sink: dict[str, object], threshold: int = 1, *, header: bool = False
) -> MachineSpec:
    wanted = {"unlock": unlock, "recovery": {"sink": sink, "header": header}, "threshold": threshold}
    install = InstallSpec.model_validate({"from": "iso", "iso": "local:iso/nixos.iso"})
    return SPEC.model_copy(update={"encryption": Encryption.model_validate(wanted), "install": install})


def tang(*thumbprints: str) -> dict[str, object]:
    return {
        "tang": tuple({"url": f"http://192.0.2.{place}", "thumbprint": one} for place, one in enumerate(thumbprints, 5))
    }


REGISTERS: dict[str, object] = {"tpm2": {"pcrs": (7, 15)}}
VAULT = encrypted(tang(THUMBPRINT) | {"tool": True}, {"folder": "/vault"})


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_an_installation_that_broke_anywhere_ends_with_a_disk_that_its_keys_open(
    bang: Callable[[], BaseException],
) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=45, spec=VAULT):
        volume = luks_uuid(bench.record.machine.facts, "root") if bench.record.machine.facts.uuid else ""
        if bench.cluster.vms and bench.vm.luks:
            assert bench.vault.held[volume] == bench.vm.luks[SLOTS[Use.RECOVERY]], "a disk without its recovery key"
        machine = bench.run(spec=VAULT)
        volume = luks_uuid(machine.facts, "root")
        assert machine.phase is Phase.READY, at
        assert bench.vm.luks_uuid == volume and set(bench.vm.luks) == {1, 2, 3}, at
        assert bench.vault.held == {volume: bench.vm.luks[SLOTS[Use.RECOVERY]]}, at
        assert bench.keys.disks == {(volume, "tool"): bench.vm.luks[SLOTS[Use.TOOL]]}, at
        assert bench.vault.given <= 3, at


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_destroying_after_a_break_anywhere_leaves_no_key(bang: Callable[[], BaseException]) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=45, spec=VAULT):
        bench.run(Phase.ABSENT, spec=VAULT)
        assert not bench.keys.disks and not bench.cluster.vms, at


def test_a_disk_is_not_written_when_the_sink_fails() -> None:
    bench = Bench()
    bench.vault.refuses = True
    with pytest.raises(ConfigError, match="the sink is full"):
        bench.run(spec=VAULT)
    assert not bench.vm.partitioned and not bench.vm.keys
    bench.vault.refuses = False
    assert bench.run(spec=VAULT).phase is Phase.READY


def test_a_reinstall_has_other_keys_and_forgets_those_of_before() -> None:
    bench = Bench()
    before = bench.run(spec=VAULT)
    keys = dict(bench.vm.luks)
    bench.run(Phase.DEFINED, spec=VAULT)
    after = bench.run(spec=VAULT)
    assert after.facts.luks["uuid"] != before.facts.luks["uuid"]
    assert not set(keys.values()) & set(bench.vm.luks.values())
    assert set(bench.keys.disks) == {(after.facts.luks["uuid"], "tool")}


def test_the_record_has_slots_and_a_digest_and_no_key() -> None:
    bench = Bench()
    facts = bench.run(spec=VAULT).facts
    recovery = bench.vm.luks[SLOTS[Use.RECOVERY]]
    assert facts.luks == {
        "uuid": luks_uuid(facts, "root"),
        "slots": f"1 recovery, 2 tang {THUMBPRINT}, 3 tool",
        "recovery": digest_of(recovery),
        "sink": f"vault {luks_uuid(facts, 'root')}",
        "opened": "1800000002",
        "boot": "00000000-0000-4000-8000-000000000002",
    }
    told = str(facts.to_json())
    assert not [key for key in bench.vm.luks.values() if key in told]


def test_without_a_recovery_key_there_is_no_sink() -> None:
    bench = Bench()
    facts = bench.run(spec=encrypted(tang(THUMBPRINT), {"none": True})).facts
    assert bench.vault.given == 0 and set(bench.vm.luks) == {2}
    assert facts.luks["slots"] == f"2 tang {THUMBPRINT}"


def test_a_machine_without_encryption_has_no_keys() -> None:
    bench = Bench()
    assert deployed(bench).facts.luks == {}
    assert not bench.keys.disks and bench.vault.given == 0


def test_an_encrypted_disk_is_looked_at_and_emptied_before_it_is_made() -> None:
    """As every layout does it: a disk that is not the machine's is refused."""
    script = layout(VAULT, FACTS)
    assert 'empty "$disk"' in script[script.index(EMPTY) + len(EMPTY) : script.index("cryptsetup luksFormat")]


@pytest.mark.parametrize("name", list(LayoutName))
def test_any_layout_is_made_on_the_open_volume_and_never_beside_it(name: LayoutName) -> None:
    spec = VAULT.model_copy(update={"install": VAULT.install.model_copy(update={"layout": name})})
    script = layout(spec, FACTS)
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    made = LAYOUTS[name].make
    assert script.count(made) == 1 and script.count("mkfs.ext4 -q -F -L boot") == 1
    assert script.index("cryptsetup luksFormat") < script.index("root=/dev/mapper/root\n") < script.index(made)


def test_no_key_is_in_the_script_that_makes_the_disk() -> None:
    """And each key is proven by opening before the file system is made."""
    script = layout(VAULT, FACTS)
    assert script.count("--test-passphrase") == len(set(SLOTS.values()))
    assert script.rindex("--test-passphrase") < script.index("mkfs.ext4")
    assert "shred" in script[script.index("mkfs.ext4") :]


@pytest.mark.parametrize(
    ("spec", "pin"),
    [
        (VAULT, ("tang", f'{{"url": "http://192.0.2.5", "thp": "{THUMBPRINT}"}}')),
        (
            encrypted(tang(THUMBPRINT, OTHER), {"none": True}, threshold=2),
            (
                "sss",
                f'{{"t": 2, "pins": {{"tang": [{{"url": "http://192.0.2.5", "thp": "{THUMBPRINT}"}}, '
                f'{{"url": "http://192.0.2.6", "thp": "{OTHER}"}}]}}}}',
            ),
        ),
        (encrypted(REGISTERS, {"none": True}), ("tpm2", '{"pcr_bank": "sha256", "pcr_ids": "7,15"}')),
        (
            encrypted(tang(THUMBPRINT) | REGISTERS, {"none": True}, threshold=2),
            (
                "sss",
                f'{{"t": 2, "pins": {{"tang": [{{"url": "http://192.0.2.5", "thp": "{THUMBPRINT}"}}], '
                '"tpm2": {"pcr_bank": "sha256", "pcr_ids": "7,15"}}}',
            ),
        ),
    ],
)
def test_the_pin_names_each_server_with_its_thumbprint_and_the_registers_of_the_tpm(
    spec: MachineSpec, pin: tuple[str, str]
) -> None:
    assert spec.encryption is not None
    assert pin_of(spec.encryption) == pin


@pytest.mark.parametrize(
    "printed",
    ["", "nixops-proxmox-luks \n", "nixops-proxmox-luks x\n{}", "nixops-proxmox-luks \n[]", '{"keyslots": {}}']
    + [f"nixops-proxmox-luks {FACTS.uuid}\n{rest}" for rest in ("[]", '{"keyslots": []}', '{"keyslots": {"-1": {}}}')],
)
def test_what_is_no_header_is_refused(printed: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_header(printed)


def test_a_slot_that_is_not_ours_is_refused() -> None:
    volume = luks_uuid(FACTS, "root")
    refuse_other_header("web", VAULT, FACTS, Header(volume, (1, 2, 3)))
    for found in (Header(volume, (0, 1, 2, 3)), Header(volume, (1, 2)), Header(FACTS.uuid, (1, 2, 3))):
        with pytest.raises(CommandFailed, match="key slots"):
            refuse_other_header("web", VAULT, FACTS, found)


TYPED = encrypted({"tool": True}, {"folder": "/vault"})
BY_TPM = encrypted(REGISTERS, {"folder": "/vault"})


@pytest.mark.parametrize("bang", BANGS, ids=IDS)
def test_where_nobody_else_opens_the_disk_the_tool_does_after_a_break_anywhere(
    bang: Callable[[], BaseException],
) -> None:
    for at, bench in broken(bang, fresh, Phase.READY, at_least=45, spec=TYPED):
        assert bench.run(spec=TYPED).phase is Phase.READY, at
        assert bench.console.opened == bench.vm.boots, at


BY_SSH = encrypted({"ssh": {"port": 2222}}, {"folder": "/vault"})


def test_a_first_stage_gets_the_key_by_ssh_after_a_break_anywhere_and_its_host_key_is_not_the_systems() -> None:
    for at, bench in broken(BANGS[0], fresh, Phase.READY, at_least=45, spec=BY_SSH):
        assert bench.run(spec=BY_SSH).phase is Phase.READY, at
        assert bench.first_stages.opened == bench.vm.boots and not bench.console.tried, at
        assert bench.vm.first_keys["ssh_host_ed25519_key"] not in (*bench.keys.keys.values(), bench.vm.host_key), at
        assert bench.record.machine.facts.luks["ssh"] == "2222", at


def test_where_no_first_stage_answers_by_ssh_the_key_is_typed() -> None:
    bench = Bench()
    bench.first_stages.silent = True
    bench.run(spec=BY_SSH)
    assert bench.console.opened == bench.vm.boots and not bench.first_stages.opened


def test_a_running_system_gets_the_key_of_its_first_stages_server_before_its_boot_loader_is_written() -> None:
    bench = Bench()
    bench.run(spec=TYPED)
    assert not bench.vm.first_keys
    bench.run(Phase.STOPPED, spec=TYPED)
    bench.run(spec=BY_SSH)
    assert bench.vm.first_keys and bench.record.machine.facts.luks["ssh"] == "2222"
    bench.run(Phase.STOPPED, spec=BY_SSH)
    bench.run(spec=TYPED)
    assert "ssh" not in bench.record.machine.facts.luks


def test_the_last_boot_without_help_is_recorded_and_one_with_help_is_not() -> None:
    bench = Bench()
    first = bench.run(spec=VAULT).facts.luks["boot"]
    bench.run(Phase.STOPPED, spec=VAULT)
    second = bench.run(spec=VAULT).facts.luks
    assert second["boot"] != first and int(second["opened"]) == 1_800_000_000 + bench.vm.boots
    bench.run(Phase.STOPPED, spec=VAULT)
    bench.vm.opened = bench.vm.boots + 1  # somebody types a key at the next boot
    assert bench.run(spec=VAULT).facts.luks == second
    assert "opened" not in Bench().run(spec=TYPED).facts.luks


def test_a_disk_that_tang_opens_is_left_to_it() -> None:
    bench = Bench()
    bench.run(spec=VAULT)
    assert not bench.console.tried


def test_unlocking_needs_the_key_store_that_has_the_key() -> None:
    bench = Bench()
    with pytest.raises(NoPath, match="no encrypted disk"):
        unlock(bench.world(spec=TYPED), bench.run(spec=SPEC))
    bench = Bench()
    machine = bench.run(spec=TYPED)
    assert not unlock(bench.world(spec=TYPED), machine), "its system is up"
    bench.keys.disks.clear()
    with pytest.raises(StateError, match="no key for its disk"):
        unlock(bench.world(spec=TYPED), machine)


def test_where_only_a_person_opens_the_disk_the_deploy_says_where_to_type() -> None:
    bench = Bench()
    bench.run(spec=encrypted({"typed": True}, {"folder": "/vault"}))
    (warning,) = bench.reporter.warnings
    assert "waits for the recovery key" in warning and not bench.console.tried


@pytest.mark.parametrize(
    ("before", "after", "why", "remedy"),
    [
        (SPEC, VAULT, "was installed without", "reinstall web"),
        (VAULT, VAULT.model_copy(update={"encryption": None}), "the description has no `encryption`", "reinstall web"),
        (TYPED, VAULT, "no key of its disk is sealed", "recovery rotate web"),
        (BY_TPM, VAULT, r"sealed \(tpm2 7\+15\), and the description has no `encryption.unlock.tpm2`", "rotate web"),
        (VAULT, BY_TPM, r"sealed \(tang .*\), and the description has no `encryption.unlock.tang`", "reinstall web"),
    ],
)
def test_a_system_that_could_not_open_the_disk_is_not_activated(
    before: MachineSpec, after: MachineSpec, why: str, remedy: str
) -> None:
    bench = Bench()
    machine = bench.run(spec=before)
    with pytest.raises(NeedsPermission, match=why) as refused:
        plan_deploy(machine, bench.world(spec=after))
    assert remedy in spell(refused.value.hint)
    again = after.model_copy(update={"install": after.install.model_copy(update={"asked": 1})})
    assert plan_deploy(machine, bench.world(spec=again)).legs
    assert plan_reinstall(machine, bench.world(spec=after)).legs
    plan_deploy(machine, bench.world(spec=before))


def test_a_first_stage_that_asks_more_than_who_sealed_the_key_still_opens_the_disk() -> None:
    bench = Bench()
    machine = bench.run(spec=VAULT)
    both = encrypted(tang(THUMBPRINT) | REGISTERS | {"tool": True}, {"folder": "/vault"})
    assert plan_deploy(machine, bench.world(spec=both)).blocked is None


def test_a_key_is_sealed_only_by_a_tpm_that_no_system_has_locked_yet() -> None:
    script = layout(BY_TPM, FACTS)
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert script.index("tpm_version_major") < script.index("pcr-sha256/15") < script.index("clevis encrypt tpm2")
    assert "tpm_version_major" not in layout(VAULT, FACTS)


@pytest.mark.parametrize(
    ("spec", "changes", "why"),
    [
        ("tpm", [Change("tpmstate0", "", "ceph:1,version=v2.0")], "a new TPM has other keys"),
        ("tpm", [Change("efidisk0", "", "ceph:1,efitype=4m")], "new EFI variables change PCR 7"),
        ("tpm", [Change("tpmstate0", "lvm:vm-9-disk-1", "ceph:1"), Change("memory", "1", "2")], ""),
        ("tang", [Change("tpmstate0", "", "ceph:1,version=v2.0")], ""),
    ],
)
def test_what_the_tpm_will_not_unseal_any_more_is_known_before(spec: str, changes: list[Change], why: str) -> None:
    machine = Bench().run(spec={"tpm": BY_TPM, "tang": VAULT}[spec])
    told = lost_seal(machine, changes)
    assert (why in told and "console web" in spell(told)) if why else told == ""


def test_other_servers_are_told_of_and_the_machine_is_left_as_it_is() -> None:
    bench = Bench()
    machine = bench.run(spec=VAULT)
    other = encrypted(tang(OTHER) | {"tool": True}, {"folder": "/vault"})
    plan_deploy(machine, bench.world(spec=other))
    bench.vm.running = False
    bench.run(spec=other)
    (warning,) = bench.reporter.warnings
    assert "`encryption` has changed" in warning and THUMBPRINT in warning


def test_a_disk_that_somebody_else_made_is_theirs() -> None:
    bench = Bench()
    machine = bench.run(spec=SPEC)
    adopted = machine.moved(machine.phase, replace(machine.facts, installed_by="recovered"))
    assert find_mismatch(VAULT, adopted.facts) == ""


@pytest.mark.parametrize(
    ("spec", "opens"), [(VAULT, "unlock web"), (encrypted(tang(THUMBPRINT), {"folder": "/v"}), "console web")]
)
def test_a_machine_that_does_not_answer_may_wait_for_its_key_and_is_told_so(spec: MachineSpec, opens: str) -> None:
    class Silent(Guest):
        @override
        def meet_system(self, machine: Machine, spec: MachineSpec) -> Facts:
            raise AgentSilent("no answer from the guest agent")

    bench = Bench()
    with pytest.raises(AgentSilent):
        bench.run(spec=spec, guest=Silent)
    (warning,) = bench.reporter.warnings
    assert f"nixops-proxmox {opens}" in spell(warning) and THUMBPRINT in warning
    bench = Bench()
    with pytest.raises(AgentSilent):
        bench.run(spec=SPEC, guest=Silent)
    assert bench.reporter.warnings == []
