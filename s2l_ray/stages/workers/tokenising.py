"""Tokenise a unit of rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.modeling.examples import ExampleMaker
from s2l_ray.modeling.models import load_tokenizer
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.rows.units import Unit
from s2l_ray.stages.workers.held_out import read_held_out
from s2l_ray.stages.workers.sharding import part_file
from s2l_ray.storage.artifacts import Artifact


class PartWriter:
    """Tokenises one unit of rows into one part file."""

    def __init__(self, artifact: Artifact, data: DataConfig, model: ModelConfig, shape: str,
                 schema: pa.Schema | None) -> None:
        self._artifact = artifact
        self._maker = ExampleMaker(data, shape, load_tokenizer(model), schema, read_held_out(artifact))

    def run(self, unit: tuple[int, Unit, np.ndarray | None]) -> Mapping[str, Any]:
        number, rows, keep = unit
        file = part_file(number)
        if not self._artifact.exists(file):
            self._artifact.write_table(file, self._maker.make(rows, keep))
        return {}
