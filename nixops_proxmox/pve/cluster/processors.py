"""Pure: can a node's processor be the one that a machine asks for?"""

from nixops_proxmox.pve.api.answers import Processor
from nixops_proxmox.spec import MachineSpec

# What each level adds, in the words of /proc/cpuinfo (x86-64 psABI; QEMU's models of these names).
_LEVELS = {
    "x86-64-v2": frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    "x86-64-v2-AES": frozenset({"aes"}),
    "x86-64-v3": frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    "x86-64-v4": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
}


def is_demanding(spec: MachineSpec) -> bool:
    """Must the node's processor be looked at?"""
    return _is_accelerated(spec) and (spec.arch is not None or _model(spec) in _LEVELS)


def processor_refusal(spec: MachineSpec, processor: Processor) -> str:
    """Why the machine cannot run there. Empty: it can, or the node does not tell."""
    if not is_demanding(spec):
        return ""
    if spec.arch and processor.arch and processor.arch != spec.arch:
        return f"its processors are {processor.arch}, not {spec.arch}"
    missing = sorted(_needed(_model(spec)) - processor.flags) if processor.flags else []
    if missing:
        return f"its processors cannot be {_model(spec)}: they lack {', '.join(missing)}"
    return ""


def _is_accelerated(spec: MachineSpec) -> bool:
    """An emulated processor can be any."""
    return str(spec.extra.get("kvm", 1)) not in ("0", "False")


def _model(spec: MachineSpec) -> str:
    return (spec.cpu.type or "").partition(",")[0].removeprefix("cputype=")


def _needed(model: str) -> frozenset[str]:
    """Its own and those of all levels below."""
    needed: frozenset[str] = frozenset()
    for level, flags in _LEVELS.items():
        needed |= flags
        if level == model:
            return needed
    return frozenset()
