"""Tables of the storage as Ray Data datasets."""

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from s2l_ray.modeling.schedule import TRAINED_ON
from s2l_ray.storage.artifacts import Artifact


def read_examples(examples: Artifact, selected: pa.Array | None = None) -> "ray.data.Dataset":
    """Return the token columns of a prepared pool, or of the selected ids only."""
    storage = examples.storage
    # The second version starts 32 processes, of 200 MB each, to read the footers beforehand, whatever the machine.
    context = ray.data.DataContext.get_current()
    context.use_datasource_v2 = context.enable_progress_bars = False
    dataset = ray.data.read_parquet(storage.path(examples.file("examples")), filesystem=storage.filesystem)
    dataset = dataset.select_columns(TRAINED_ON)
    if selected is None:
        return dataset
    wanted = ray.put(selected)

    def keep(table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["example_id"], value_set=ray.get(wanted)))

    return dataset.map_batches(keep, batch_size=None, batch_format="pyarrow")
