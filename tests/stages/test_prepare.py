"""What prepare sends to its workers: .venv/bin/pytest tests/stages/test_prepare.py"""

import pickle

import numpy as np
import pyarrow as pa

from s2l_ray.rows.accounting import Accounts
from s2l_ray.stages.prepare import _plan_shards
from s2l_ray.tables import QUARANTINE


def test_all_shards_together_are_sent_as_often_as_there_are_rows():
    # A slice of Arrow's brought the ids of all 10,000 rows with each of 100 shards: 35 GB for a million rows.
    num_rows = 10_000
    ids = pa.array([f"{number:032d}" for number in range(num_rows)])
    parts_N, rows_N = np.divmod(np.arange(num_rows), 4096)
    shards = _plan_shards(Accounts(num_rows, 0, QUARANTINE.empty_table(), ids, parts_N, rows_N), 100)
    assert [shard["number"] for shard in shards] == list(range(100))
    sent = [pickle.dumps(shard) for shard in shards]
    assert sum(map(len, sent)) < 2 * (ids.nbytes + rows_N.nbytes)
    arrived = [pickle.loads(shard) for shard in sent]
    assert pa.concat_arrays([shard["ids"] for shard in arrived]).equals(ids)
    taken = [(part, row) for shard in arrived for part, rows in shard["takes"] for row in rows.tolist()]
    assert taken == list(zip(parts_N.tolist(), rows_N.tolist(), strict=True))
