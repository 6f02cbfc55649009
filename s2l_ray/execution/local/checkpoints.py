"""Checkpoints that a training on this machine goes on from: files first, then the note that they are all there."""

from s2l_ray.storage.files import Storage

CHECKPOINT = "local-"
_DONE = "complete.json"


def complete(storage: Storage, folder: str, name: str) -> None:
    """Make a checkpoint the one to go on from, and delete those before it."""
    storage.write_json(f"{folder}/{name}/{_DONE}", {})
    _delete(storage, folder, keep=name)


def newest(storage: Storage, folder: str) -> str | None:
    """Return the name of the checkpoint to go on from, having deleted what is not one."""
    whole = [name for name in storage.list_names(folder)
             if name.startswith(CHECKPOINT) and storage.exists(f"{folder}/{name}/{_DONE}")]
    _delete(storage, folder, keep=whole[-1] if whole else None)
    return whole[-1] if whole else None


def _delete(storage: Storage, folder: str, keep: str | None) -> None:
    for name in storage.list_names(folder):
        if name.startswith(CHECKPOINT) and name != keep:
            storage.delete_folder(f"{folder}/{name}")
