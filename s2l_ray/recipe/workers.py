"""What a stage can run on."""

from typing import Literal

Workers = Literal["none", "cpu", "scoring", "training"]
"""What a stage runs on: this process alone; processes of a core each; of a GPU each where there are GPUs; a training's
group of workers."""
