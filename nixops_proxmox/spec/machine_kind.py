"""What a machine is for PVE."""

from enum import StrEnum


class MachineKind(StrEnum):
    VM = "vm"
    CONTAINER = "container"
