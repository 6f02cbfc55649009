"""The base of every part of the recipe.

A field marked WHERE decides where or how fast the run happens, never what comes out: it stays out of the
artifacts' fingerprints, so a run moved to a larger cluster still finds its finished work.
"""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

WHERE = "where"

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=2**53)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy's oldest generator takes, which the trainings seed too


class Section(BaseModel):
    """Base of every part of the recipe: unknown keys are refused and values never change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false except in switches: Python would take them for 1 and 0."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            said = str(value).lower()
            raise ValueError(f"{said} is not possible here (YAML reads yes, no, on and off as true and false)")
        return value

    def identity(self) -> dict[str, Any]:
        """Return the fields that decide an artifact's content, nested sections included."""
        fields = type(self).model_fields
        return {name: _identity(getattr(self, name)) for name, f in fields.items() if WHERE not in f.metadata}


def _identity(value: Any) -> Any:
    if isinstance(value, Section):
        return value.identity()
    return [_identity(item) for item in value] if isinstance(value, list) else value
