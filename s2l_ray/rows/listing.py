"""Which files a path means, and what their endings say."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs as pafs

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import FORMATS
from s2l_ray.rows.splits import of_split, without_bookkeeping
from s2l_ray.storage.files import resolve
from s2l_ray.storage.links import link_out

Compression = Literal["gzip", "zstd", "bz2"]

_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


def known_endings() -> str:
    """Return the endings of data files, in words."""
    packed, plain = (
        ", ".join(ending for form in FORMATS for ending in form.endings if form.is_compressible is compressible)
        for compressible in (True, False)
    )
    return f"{packed} (each also with {', '.join(_COMPRESSIONS)}) and {plain}"


def format_by_ending(path: str) -> tuple[str, Compression | None] | None:
    """Return the file format and compression that an ending says, whatever its case; None for one that is not known."""
    stem, ending = os.path.splitext(path.rpartition("/")[2].lower())
    compression = _COMPRESSIONS.get(ending)
    if compression:
        ending = os.path.splitext(stem)[1]
    found = next((form for form in FORMATS if ending in form.endings), None)
    return None if found is None or (compression and not found.is_compressible) else (found.name, compression)


def list_files(path: str, split: str | None = None) -> list[str]:
    """Return the data files that a file, a folder or a glob means, sorted; of several splits, those of one.

    A folder means all files with known endings below it, other than hidden ones and those whose name, or
    whose folder's name, starts with an underscore. In a glob, ``*`` and ``?`` stay within one folder and
    ``**`` crosses folders; in a storage URI ``?`` starts the query and is no wildcard. Local files come
    back as absolute paths, others as URIs of the scheme they were asked by.

    Raises
    ------
    InputError
        Nothing matches, the place cannot be listed, the URI holds a password, a file found in a folder is a link out
        of it, or the files are of several splits and none of them is asked for.
    """
    folder, pattern = _split_glob(path)
    if pattern and "://" not in path and os.path.exists(os.path.expanduser(path)):
        folder, pattern = path, ""  # a file may really be called a[1].jsonl
    filesystem, root = resolve(folder)
    try:
        info = filesystem.get_file_info(root)
        if info.type == pafs.FileType.Directory:
            below = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
            found = _wanted([i.path for i in below if i.type == pafs.FileType.File], root, pattern or "**")
        else:
            found = [root] if info.type == pafs.FileType.File else []
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be listed: {error}") from error
    except UnicodeError as error:
        raise InputError(f"{path}: a file's name there is not UTF-8 ({error}): rename it") from error
    files = without_bookkeeping(sorted(file for file in found if format_by_ending(file)), filesystem)
    if not files:
        raise InputError(_nothing_found(path, found))
    files = of_split(path, files, root, split)
    if info.type == pafs.FileType.Directory and isinstance(filesystem, pafs.LocalFileSystem):
        _refuse_links_out(path, root, files)
    return [_child_uri(folder, root, file) for file in files]


def _refuse_links_out(path: str, root: str, files: list[str]) -> None:
    """Refuse files that whoever made the folder took from elsewhere on the reader's machine."""
    for file in files:
        place = link_out(Path(root), Path(file))
        if place is not None:
            raise InputError(f"{path}: {file} is a link to {place}, outside the folder: copy it there, or name "
                             "that file as the path")


def file_names(files: Sequence[str]) -> list[str]:
    """Return the names that reports call the files by: their paths below the folder that they share."""
    parts = [(unquote(file.partition("?")[0]) if "://" in file else file).split("/") for file in files]
    levels = zip(*(part[:-1] for part in parts), strict=False)
    num_shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    return ["/".join(part[num_shared:]) for part in parts]


def _split_glob(path: str) -> tuple[str, str]:
    """Return the folder above the first wildcard and the pattern below it ("" where there is no wildcard)."""
    base, mark, query = path.partition("?") if "://" in path else (path, "", "")
    wild = re.search(r"[*?\[]", base)
    if not wild:
        return path, ""
    cut = base.rfind("/", 0, wild.start()) + 1
    return (base[:cut] or ".") + mark + query, base[cut:]


def _wanted(files: list[str], root: str, pattern: str) -> list[str]:
    """Return the files below `root` that the glob pattern matches, less the hidden ones."""
    pattern_parts = pattern.split("/")
    names_hidden = any(part.startswith((".", "_")) for part in pattern_parts)
    wanted = []
    for file in files:
        parts = file[len(root.rstrip("/")) + 1 :].split("/")
        hidden = any(part.startswith((".", "_")) for part in parts)
        if _matches(parts, pattern_parts) and (names_hidden or not hidden):
            wanted.append(file)
    return wanted


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _child_uri(folder: str, root: str, file: str) -> str:
    """Return a file that was found below `root` under the scheme, host and query of the folder asked for."""
    if "://" not in folder:
        return file
    base, mark, query = folder.partition("?")
    return base.rstrip("/") + quote(file[len(root.rstrip("/")) :]) + mark + query


def _nothing_found(path: str, found: list[str]) -> str:
    if not found:
        return f"{path}: no such file, or no data file there. Known endings: {known_endings()}."
    endings = Counter(os.path.splitext(file.rpartition("/")[2])[1] or "none" for file in found)
    seen = ", ".join(f"{ending} ({count})" for ending, count in endings.most_common(5))
    return f"{path}: no file with a known ending; found the endings {seen}. Known endings: {known_endings()}."
