"""What unseals a disk's key when the machine boots: tang servers, the VM's own TPM, or a number of them. Pure."""

import json
import shlex
from collections.abc import Sequence, Set

from nixops_proxmox.model import Change
from nixops_proxmox.spec import Encryption
from nixops_proxmox.spec.encryption import GUARD, SECURE_BOOT, Tpm2

TANG, TPM2 = "tang", "tpm2"  # Clevis's names for them
BANK = "sha256"
DEVICES = ("tpmstate0", "efidisk0")  # of the VM: where what the TPM knows and measures is kept


def pin_of(encryption: Encryption, digest: str = "") -> tuple[str, str]:
    """Clevis's pin and its configuration. `digest`: what the registers of the TPM have when it is to unseal, as clevis
    is told. Empty: what they have now."""
    servers = [{"url": one.url, "thp": one.thumbprint} for one in encryption.unlock.tang]
    tpm2 = encryption.unlock.tpm2
    registers = {"pcr_bank": BANK, "pcr_ids": ",".join(map(str, tpm2.pcrs))} if tpm2 is not None else None
    if registers is not None and digest:
        registers["pcr_digest"] = digest
    if encryption.unlock.parts == 1:
        return (TPM2, json.dumps(registers)) if registers is not None else (TANG, json.dumps(servers[0]))
    pins = ({TANG: servers} if servers else {}) | ({TPM2: registers} if registers is not None else {})
    return "sss", json.dumps({"t": encryption.threshold, "pins": pins})


def describe_seal(encryption: Encryption) -> str:
    """Tell people and the record who unseals."""
    servers = [str(one.thumbprint) for one in encryption.unlock.tang]
    tpm2 = encryption.unlock.tpm2
    if tpm2 is None:
        many = f"{encryption.threshold} of " if len(servers) > 1 else ""
        return f"{TANG} {many}{' '.join(servers)}"
    registers = f"{TPM2} {'+'.join(map(str, tpm2.pcrs))}"
    return f"{encryption.threshold} of {TANG} {' '.join(servers)} {registers}" if servers else registers


def ways_in(seal: str) -> Set[str]:
    """Who unseals, as `describe_seal` told it."""
    return {TANG, TPM2} & set(seal.split())


def ways_of(encryption: Encryption) -> Set[str]:
    wanted = {TANG: bool(encryption.unlock.tang), TPM2: encryption.unlock.tpm2 is not None}
    return {way for way, is_wanted in wanted.items() if is_wanted}


def sealing(encryption: Encryption, key: str, sealed: str, opens: str) -> list[str]:
    """Shell lines that seal the file `key` into the file `sealed`, and prove it with the command `opens`, which gets
    the key that was unsealed. They use `fail MESSAGE`."""
    pin, config = pin_of(encryption)
    lines = [] if encryption.unlock.tpm2 is None else _look_at_tpm(encryption.unlock.tpm2)
    lines += [f"clevis encrypt {pin} {shlex.quote(config)} < {key} > {sealed}", f"clevis decrypt < {sealed} | {opens}"]
    return lines


_DIGEST = "@DIGEST@"  # stands in a configuration for what the shell finds out


def sealing_for_boot(encryption: Encryption, key: str, sealed: str) -> list[str]:
    """Shell lines of a system that runs, whose TPM is locked: seal the file `key` into the file `sealed`, to what the
    first stage of the next boot will find. That cannot be tried here, but that the TPM seals and unseals can."""
    assert encryption.unlock.tpm2 is not None
    now = {"pcr_bank": BANK, "pcr_ids": ",".join(map(str, encryption.unlock.tpm2.pcrs))}
    pin, config = pin_of(encryption, _DIGEST)
    tpm = "/sys/class/tpm/tpm0"
    return [
        f'[ "$(echo probe | clevis encrypt {TPM2} {shlex.quote(json.dumps(now))} | clevis decrypt)" = probe ] || '
        "{ echo 'the TPM does not seal and unseal' >&2; exit 1; }",
        "registers=",
        f"for number in {' '.join(map(str, encryption.unlock.tpm2.pcrs))}; do",
        f"  value=$(cat {tpm}/pcr-{BANK}/$number)",
        f"  [ $number != {GUARD} ] || value={'0' * 64}",
        '  registers="$registers$value"',
        "done",
        'digest=$(printf %s "$registers" | tr a-f A-F | basenc --base16 -d | basenc --base64url -w 0 | tr -d =)',
        f'config=$(printf %s {shlex.quote(config)} | sed "s/{_DIGEST}/$digest/")',
        f'clevis encrypt {pin} "$config" < {key} > {sealed}',
    ]


def _look_at_tpm(tpm2: Tpm2) -> list[str]:
    """The key is sealed to what the installer measured. So that must be what the system will have measured."""
    assert GUARD in tpm2.pcrs, "the description is checked"
    tpm, extended = "/sys/class/tpm/tpm0", f"the installer has extended PCR {GUARD} of the TPM"
    return [
        f'[ "$(cat {tpm}/tpm_version_major 2>/dev/null)" = 2 ] || fail "the installer sees no TPM of the version 2.0"',
        f"case $(cat {tpm}/pcr-{BANK}/{GUARD}) in",
        f"  *[!0]* | '') fail \"{extended}, and a system that boots has not\" ;;",
        "esac",
    ]


def find_lost(seal: str, changes: Sequence[Change]) -> str:
    """What changes of the VM do to a seal of the TPM. Empty: nothing."""
    made = [one.key for one in changes if one.key in DEVICES and not one.have]
    if TPM2 not in ways_in(seal) or not made:
        return ""
    why = "a new TPM has other keys" if DEVICES[0] in made else f"new EFI variables change PCR {SECURE_BOOT}"
    return f"{' and '.join(made)}: {why}, and the TPM does not unseal the disk's key after that ({seal})"
