"""What all models of the description have in common."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """It never changes, and refuses fields that are not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False, defer_build=True)
