"""The folder that a submitted job works in: the project and its recipe, and nothing else of this machine."""

import shutil
from pathlib import Path

from s2l_ray.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
PACKED = ("s2l_ray", "jobs", "pyproject.toml", "constraints.txt")
RECIPES = "jobs/recipes"

MAX_MIB = 100
RAYS_MAX_MIB = 500
"""What Ray takes as a working directory at most."""

_NOT_PACKED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
_NUM_LARGEST = 5


def pack_project(recipe: Path, folder: Path, *, max_mib: int = MAX_MIB, project: Path = PROJECT) -> str:
    """Copy the project and a recipe into an empty folder; return the recipe's path in it.

    The recipe takes the place of a shipped one of its name. `max_mib` bounds the bytes before compression.

    Raises
    ------
    InputError
        The package was installed without its project, `max_mib` is out of bounds, or the files exceed it.
    """
    missing = [name for name in PACKED if not (project / name).exists()]
    if missing:
        raise InputError(f"{project} holds no {', '.join(missing)}: submit from a checkout of the project, installed "
                         "with pip install --editable")
    if not 1 <= max_mib <= RAYS_MAX_MIB:
        raise InputError(f"--max-mib {max_mib} must be between 1 and {RAYS_MAX_MIB}, Ray's own limit")
    for name in PACKED:
        if (project / name).is_dir():
            shutil.copytree(project / name, folder / name, ignore=_NOT_PACKED)
        else:
            shutil.copy2(project / name, folder / name)
    place = f"{RECIPES}/{recipe.name}"
    (folder / RECIPES).mkdir(exist_ok=True)
    shutil.copy2(recipe, folder / place)
    _check_size(folder, max_mib)
    return place


def _check_size(folder: Path, max_mib: int) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    total = sum(sizes.values())
    if total <= max_mib << 20:
        return
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:_NUM_LARGEST]
    listed = "; ".join(f"{name} {sizes[name] / (1 << 20):.1f} MiB" for name in largest)
    raise InputError(
        f"the job's working directory would be {total / (1 << 20):.1f} MiB, above --max-mib {max_mib}. The largest "
        f"files: {listed}. Keep data in the storage (s3://...) and out of the project, or raise --max-mib"
    )
