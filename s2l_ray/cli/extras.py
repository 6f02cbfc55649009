"""What a light install leaves out: which extra of the package brings what a command could not import."""

from s2l_ray.errors import InputError

EXTRAS = {
    "train": ("ray", "torch", "transformers", "accelerate", "deepspeed", "peft", "huggingface_hub", "datasets",
              "tokenizers", "safetensors", "psutil", "rouge_score", "sacrebleu", "math_verify"),
    "report": ("jinja2", "plotly"),
    "harness": ("lm_eval",),
    "dedup": ("rensa",),
}
"""Each extra's packages, by the names they are imported by; `pyproject.toml` says what they are for."""


def missing_extra(error: BaseException) -> InputError | None:
    """Return which extra to install where an import failed for want of it; None for any other error."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    extra = next((extra for extra, packages in EXTRAS.items() if error.name in packages), None)
    if extra is None:
        return None
    return InputError(f'this command needs {error.name}, which is not installed: pip install "s2l-ray[{extra}]"')
