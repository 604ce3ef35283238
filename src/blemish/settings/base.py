"""What all settings have in common."""

from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

SMALLEST, LARGEST = 1e-12, 1e12
"""Of the sizes of numbers in settings, but for 0."""


class Settings(BaseModel):
    """The base of all settings: immutable, and no name that is not defined.

    A truth value is no number. Numbers are 0, or between 1e-12 and 1e12 in size: what lies outside serves no setting,
    and its square, inverse or logarithm leaves the range of floats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: ValidationInfo) -> object:
        annotation = cls.model_fields[info.field_name or ""].annotation
        return _plain_value(value, bool in (annotation, *get_args(annotation)))


def _plain_value(value: object, may_be_bool: bool) -> object:
    match value:
        case bool():
            return value if may_be_bool else str(value).lower()  # which is then refused as text is
        case int() | float() if not (value == 0 or value != value or SMALLEST <= abs(value) <= LARGEST):
            raise PydanticCustomError("size", f"0, or between {SMALLEST:g} and {LARGEST:g} in size")
        case list() | tuple():
            return [_plain_value(part, may_be_bool) for part in value]
    return value
