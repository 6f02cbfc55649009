"""The Hugging Face hub: which commit a name means now; sending a data set there."""

import re
from pathlib import Path
from typing import Literal

from s2l_ray.errors import InputError

_COMMIT = re.compile(r"[0-9a-f]{40}")


def commit_of(kind: Literal["model", "dataset"], name: str, revision: str | None) -> str:
    """Return the commit that a model or data set of the hub has at a revision (its newest without one).

    A whole commit hash is taken as it is, and nobody is asked: what was fetched of it can be used without a network.

    Raises
    ------
    InputError
        The hub cannot be reached, or has no such name or revision.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi  # heavy
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx  # of the version the hub client uses

    ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        return str(ask(name, revision=revision).sha)
    except (httpx.HTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise InputError(f"{kind} {name!r} is neither a folder here nor reachable on the hub ({reason})") from error


def has_model(name: str, seconds: float) -> bool:
    """Tell whether the hub answers within so many seconds, and has a model."""
    from huggingface_hub import HfApi  # heavy, as the next
    from huggingface_hub.utils import httpx

    try:
        HfApi().model_info(name, timeout=seconds)
    except (httpx.HTTPError, OSError):
        return False
    return True


def push_dataset(folder: Path, name: str, *, private: bool) -> str:
    """Send a folder's files to a data set of the hub, made where it is not there, in one commit; return its address.

    Raises
    ------
    InputError
        The hub cannot be reached or refuses; or the data set is there and public, and a private one is asked for.
    """
    from huggingface_hub import HfApi  # heavy, as the next
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx

    api = HfApi()
    try:
        # private=None leaves it to the owner's default, which may be private where nobody asks for it.
        address = api.create_repo(name, repo_type="dataset", private=private or None, exist_ok=True)
        if private and not api.dataset_info(name).private:
            raise InputError(f"data set {name!r} is on the hub and public: leave --private out, or name another with "
                             "--to")
        api.upload_folder(repo_id=name, repo_type="dataset", folder_path=folder, commit_message="s2l push")
    except (httpx.HTTPError, HFValidationError, OSError) as error:
        raise InputError(_refusal(error, name)) from error
    return str(address)


def _refusal(error: Exception, name: str) -> str:
    """Return what the hub says, and what can be done about it."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or "token" in reason.lower():
        return (f"the hub does not let you write to data set {name!r} ({reason}): log in with `hf auth login`, or set "
                "HF_TOKEN to a token that may write there")
    return f"data set {name!r} cannot be sent to the hub ({reason})"
