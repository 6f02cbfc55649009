"""Files of one split, where a folder holds several; a data set as the library `datasets` saves it."""

import json
import re
from collections.abc import Sequence

import pyarrow.fs as pafs

from s2l_ray.errors import InputError

_WORDS = ("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation", "heldout",
          "held_out")
_NUMBERED = re.compile(r"(.+?)-\d{5}-of-\d{5}")
_NAMED = re.compile(rf"({'|'.join(_WORDS)})(?=[-_.]|$)")
_BOOKKEEPING = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


def of_split(path: str, files: Sequence[str], root: str, split: str | None) -> list[str]:
    """Return the files of the split that is asked for; all, where none is and they are of one.

    Raises
    ------
    InputError
        They are of several splits and none is asked for: training rows and held-out ones would be pooled. Or none is of
        the one that is.
    """
    splits = {file: _split_of(file[len(root.rstrip("/")) + 1:] or file.rpartition("/")[2]) for file in files}
    names = sorted({name for name in splits.values() if name})
    if split is not None:
        chosen = [file for file in files if splits[file] == split]
        if not chosen and len(files) > 1:
            raise InputError(f"{path} has no files of split={split}; its splits are {', '.join(names) or 'not named'}")
        return chosen or list(files)
    if names and len(set(splits.values())) > 1:
        others = [file.rpartition("/")[2] for file in files if not splits[file]]
        beside = f" beside {', '.join(others[:3])}" if others else ""
        choices = " or ".join(f"split={name}" for name in names)
        raise InputError(f"{path} holds files of {', '.join(names)}{beside}, which must not be pooled: say which with "
                         f"{choices} in its section (data.split), or name the files as the path")
    return list(files)


def _split_of(name: str) -> str | None:
    """Return the split that a file's path below the folder names, by the file or by a folder, if any."""
    *folders, file = name.split("/")
    for part in (file, *reversed(folders)):
        numbered = _NUMBERED.match(part)
        if numbered and _NAMED.match(numbered[1]):
            return numbered[1]
        if named := _NAMED.match(part):
            return named[1]
    return None


def without_bookkeeping(files: Sequence[str], filesystem: pafs.FileSystem) -> list[str]:
    """Return the files of rows: not what `datasets` notes beside them, nor its caches.

    Raises
    ------
    InputError
        What it notes cannot be read.
    """
    if len(files) == 1:
        return list(files)
    saved = {file.rpartition("/")[0]: _data_files(file, filesystem) for file in files if file.endswith("/state.json")}

    def holds_rows(file: str) -> bool:
        folder, _, name = file.rpartition("/")
        return name not in _BOOKKEEPING and name in saved.get(folder, [name])

    return [file for file in files if holds_rows(file)]


def _data_files(state: str, filesystem: pafs.FileSystem) -> list[str]:
    """Return the names of the files that a saved data set's state.json lists."""
    with filesystem.open_input_file(state) as source:
        content = source.read()
    try:
        return [str(entry["filename"]) for entry in json.loads(content)["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{state}: not a saved data set's state ({error!r}): move it out of the folder") from error
