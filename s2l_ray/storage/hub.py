"""The Hugging Face hub: which commit a name means now."""

from typing import Literal

from s2l_ray.errors import InputError


def commit_of(kind: Literal["model", "dataset"], name: str, revision: str | None) -> str:
    """Return the commit that a model or data set of the hub has at a revision (its newest without one).

    Raises
    ------
    InputError
        The hub cannot be reached, or has no such name or revision.
    """
    from huggingface_hub import HfApi  # heavy
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx  # of the version the hub client uses

    ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        return str(ask(name, revision=revision).sha)
    except (httpx.HTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise InputError(f"{kind} {name!r} is neither a folder here nor reachable on the hub ({reason})") from error
