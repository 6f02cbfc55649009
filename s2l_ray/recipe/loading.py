"""From a YAML file and `key.path=value` overrides to a checked Recipe, or one message per mistake."""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from s2l_ray.errors import InputError
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.settings import Section
from s2l_ray.storage.secrets import refuse_secret

_Model = TypeVar("_Model", bound=BaseModel)
_Section = TypeVar("_Section", bound=Section)

_MAX_VALUES = 10_000
_MAX_SHOWN = 80
_MAX_CHARS = 1_000_000
_REFERENCE = re.compile(r"\$\{([A-Za-z0-9_\[\]][A-Za-z0-9_.\[\]-]*)\}")
_UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError)


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with the project: name -> YAML file."""
    package = Path(__file__).resolve().parents[1]
    folders = (package / "recipes_shipped", package.parent / "jobs" / "recipes")  # a wheel; a checkout
    folder = next((folder for folder in folders if folder.is_dir()), folders[-1])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe file (or a shipped recipe's name) and apply overrides, left to right.

    Raises
    ------
    InputError
        The file does not exist or is not YAML, or a key or value is wrong: one line per mistake with the key,
        the value, what is allowed and the nearest valid name.
    """
    path = find_recipe(source)
    try:
        if path.stat().st_size > _MAX_CHARS:
            raise ValueError(f"it is larger than {_MAX_CHARS:,} bytes; is it a data file?")
        content = _read_yaml(path.read_text(encoding="utf-8"))
    except (*_UNREADABLE, OSError) as error:
        raise InputError(f"{path}: not a readable recipe: {_one_line(error)}") from error
    if not isinstance(content, dict):
        found = "empty" if content is None else f"a {type(content).__name__}"
        raise InputError(f"{path}: a recipe is a mapping of sections (data, proxy, target, ...), this file is {found}")
    return parse_recipe({"name": path.stem, **_overridden(content, overrides)})


def parse_text(text: str, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe that a YAML text is, under this name; InputError as `load_recipe`."""
    return parse_recipe({"name": name, **_overridden(_read_yaml(text), overrides)})


def parse_tree(tree: dict[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe that a mapping is, such as a run's record's, overrides put in; InputError as `load_recipe`."""
    return parse_recipe(_overridden(tree, overrides))


def parse_recipe(tree: dict[str, Any]) -> Recipe:
    """Check a nested mapping against the recipe's tree. Model folders become absolute: workers run elsewhere."""
    return _with_absolute_models(_validated(Recipe, tree))


def _with_absolute_models(section: _Section) -> _Section:
    """Return the section with every model folder in it made absolute, however deep it stands."""
    changed: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, ModelConfig):
            found = {key: path for key in ("path", "tokenizer") if (path := getattr(value, key)) is not None}
            folders = {key: Path(path).expanduser() for key, path in found.items()}
            absolute = {key: str(folder.absolute()) for key, folder in folders.items() if folder.is_dir()}
            changed[name] = value.model_copy(update=absolute)
        elif isinstance(value, Section):
            changed[name] = _with_absolute_models(value)
    return section.model_copy(update=changed)


def check_part(part: type[_Section], tree: dict[str, Any]) -> _Section:
    """Check a mapping of Python's own values against a part of the recipe's tree; InputError as `load_recipe`."""
    return _validated(part, tree)


def parse_part(part: type[_Section], tree: dict[str, Any], overrides: Sequence[str]) -> _Section:
    """Check a mapping, with overrides put in, against a part of the recipe's tree; InputError as `load_recipe`."""
    return _validated(part, _overridden(tree, overrides))


def _read_yaml(text: str) -> Any:
    """Return what YAML says, as plain values; numbers may be written 1e-3, and no key stands twice."""
    content = yaml.safe_load(text)  # builds nothing that a tag asks for
    pending, num_values = [content], 0
    while pending:
        value = pending.pop()
        num_values += 1
        if num_values > _MAX_VALUES:
            raise yaml.YAMLError(f"it stands for more than {_MAX_VALUES:,} values; do its aliases (*name) multiply?")
        pending.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    # OmegaConf's own loader, also a safe one, sees repeated keys and the numbers that YAML 1.1 takes for texts.
    tree = OmegaConf.to_container(OmegaConf.from_dotlist([f"content={text}"]))
    assert isinstance(tree, dict)
    return tree["content"]


def _overridden(content: dict[Any, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the mapping with each `key.path=value` put in; list entries are addressed by their number."""
    tree = OmegaConf.create(content)
    for override in overrides:
        refuse_secret(override)
        key, equals, value = override.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise InputError(f"override {override!r} must have the form key.path=value")
        try:
            OmegaConf.update(tree, key.strip(), _read_yaml(value), force_add=True)
        except (*_UNREADABLE, AttributeError, TypeError, IndexError) as error:
            raise InputError(f"override {override!r} cannot be applied: {_one_line(error)}") from error
    _check_references(OmegaConf.to_container(tree))
    try:
        resolved = OmegaConf.to_container(tree, resolve=True)
    except _UNREADABLE as error:
        raise InputError(f"recipe: {_one_line(error)}") from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _texts(tree: Any) -> Iterator[str]:
    """Yield every text of a tree, keys included."""
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            pending.extend([*value, *value.values()])
        elif isinstance(value, (list, tuple)):
            pending.extend(value)


def _check_references(tree: Any) -> None:
    """Refuse `${...}` that is more than the name of another key, and references that stand for too much text.

    OmegaConf's resolvers read the environment (`${oc.env:...}`, also spelled `${ oc.env:...}` or put together from
    other keys): the value would be written into the run's record, and a recipe may come from anybody.
    """
    pending, room = [tree], _MAX_CHARS
    while pending:
        value = pending.pop()
        room -= len(value) if isinstance(value, str) else 1
        if room < 0:
            raise InputError(
                f"the recipe stands for more than {_MAX_CHARS:,} characters; do its references (${{...}}) multiply, or "
                "refer to themselves?"
            )
        if isinstance(value, (dict, list)):
            pending.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, str) and "${" in value:
            refuse_secret(value)  # which what follows may say
            keys = _REFERENCE.findall(value)
            if len(keys) != value.count("${"):
                raise InputError(
                    f"a recipe cannot read the environment or compute ({value[:_MAX_SHOWN]!r}): ${{section.key}} names "
                    "another key of it, anything else is given as an override"
                )
            pending.extend(_referred(tree, key) for key in keys)


def _referred(tree: Any, key: str) -> Any:
    """Return the unresolved value of a key such as a.b.0 or a[0], or None where there is none."""
    for part in re.split(r"[.\[\]]+", key.strip("]")):
        if isinstance(tree, dict):
            tree = tree.get(part)
        elif isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree


def _one_line(error: BaseException) -> str:
    """Return what a parser says, with the place first."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {' '.join((error.problem or '').split())}"
    if isinstance(error, RecursionError):
        return "nested too deeply, or a value that refers to itself"
    place = getattr(error, "full_key", None)
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{place}: {first}" if place else first


def find_recipe(source: str | Path) -> Path:
    """Return the file of a recipe given as a path or as a shipped recipe's name.

    Raises
    ------
    InputError
        It is neither.
    """
    refuse_secret(str(source))
    path = Path(source).expanduser()
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if str(source) in shipped:
        return shipped[str(source)]
    names = ", ".join(shipped)
    near = difflib.get_close_matches(path.stem, list(shipped), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise InputError(f"recipe {str(source)!r} is neither a file nor one of the shipped recipes ({names}).{hint}")


def _validated(model: type[_Model], tree: dict[str, Any]) -> _Model:
    for text in _texts(tree):
        refuse_secret(text)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        mistakes: dict[str, str] = {}
        for item in error.errors():
            key, section, field = _place(model, item["loc"])
            # A value that suits no branch of a union has one error for each; the field's description covers all.
            text = "is not possible" if key in mistakes else _problem(dict(item), section)
            mistakes[key] = _line(key, dict(item), text, section, field)
        raise InputError("\n".join(mistakes.values())) from None


def _place(root: type[BaseModel], location: tuple[str | int, ...]) -> tuple[str, Any, FieldInfo | None]:
    """Return the key that a location stands for, the innermost section on its way, and the last field."""
    section: type[BaseModel] | None = root
    field, parts = None, []
    for part in location:
        if section is not None and part in section.model_fields:
            field = section.model_fields[str(part)]
            kinds = (field.annotation, *get_args(field.annotation))
            section = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        elif section is None and not isinstance(part, int) and (part == "[key]" or not _is_mapping(field)):
            continue  # pydantic's name for a branch of a union
        parts.append(str(part))
    return ".".join(parts) or "recipe", section, field


def _is_mapping(field: FieldInfo | None) -> bool:
    kind = None if field is None else field.annotation
    return dict in (get_origin(k) for k in (kind, *get_args(kind)))


def _problem(error: dict[str, Any], section: Any) -> str:
    """Return what is wrong with a value, in few words."""
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"must be a section with the keys {', '.join(section.model_fields)}"
    return str(error["msg"]).replace("Input should", "should")


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"


def _line(key: str, error: dict[str, Any], problem: str, section: Any, field: FieldInfo | None) -> str:
    """Return one line for one mistake: the key, the value, what is allowed."""
    kind = error["type"]
    if kind in ("extra_forbidden", "invalid_key"):
        allowed = list(section.model_fields)
        near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{key}: unknown key; {hint}Allowed here: {', '.join(allowed)}"
    if kind == "missing" and section is not None:
        return f"{key}: missing; add this section to the recipe, with the keys {', '.join(section.model_fields)}"
    if kind == "missing":
        return f"{key}: missing; set it in the recipe or as {key}=VALUE"
    if kind == "value_error":
        return f"{key}: {error['ctx']['error']}"
    value = _shown(error["input"])
    shown = value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}..."
    about = f". {field.description}" if field is not None and section is None else ""
    return f"{key}={shown}: {problem}{about}"
