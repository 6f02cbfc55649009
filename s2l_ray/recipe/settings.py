"""The base of every part of the recipe.

A field marked WHERE decides where or how fast the run happens, never what comes out: it stays out of the
artifacts' fingerprints, so a run moved to a larger cluster still finds its finished work.
"""

from collections.abc import Mapping
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
            written = str(value).lower()
            raise ValueError(f"{written} is not possible here (YAML reads yes, no, on and off as true and false)")
        return value

    def identity(self, *, with_defaults: bool = False) -> dict[str, Any]:
        """Return the fields that decide an artifact's content, nested sections included.

        A field that has its default is left out unless asked for: a new option changes no fingerprint until it is used.
        So a default that changes is a change of the storage's schema (`storage.files.SCHEMA_VERSION`).
        """
        kept = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            is_default = value == field.get_default(call_default_factory=True)
            if WHERE in field.metadata or (is_default and not with_defaults):
                continue
            found = _identity(value, with_defaults)
            if found or not isinstance(value, Section):  # of a section only fields marked WHERE may have been set
                kept[name] = found
        return kept

    @classmethod
    def recorded(cls, identity: Mapping[str, Any], name: str) -> Any:
        """Return a field's value by an identity that was written down, where defaults are left out."""
        default = cls.model_fields[name].get_default(call_default_factory=True)
        return identity.get(name, default)

    def identity_of(self, *names: str) -> dict[str, Any]:
        """Return those of `identity` that have these names."""
        return {name: value for name, value in self.identity().items() if name in names}


def _identity(value: Any, with_defaults: bool) -> Any:
    if isinstance(value, Section):
        return value.identity(with_defaults=with_defaults)
    return [_identity(item, with_defaults) for item in value] if isinstance(value, list) else value
