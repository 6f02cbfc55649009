"""What prepare sends to its workers: .venv/bin/pytest tests/stages/test_prepare.py"""

import pickle

import numpy as np
import pyarrow as pa

from s2l_ray.rows.accounting import Accounts
from s2l_ray.stages.prepare import _plan_shards


def test_a_shard_is_sent_with_its_own_ids_alone():
    # 50,000 ids of 16 letters are about a megabyte; 100 of them 2 kB, beside two int64 a row.
    num_rows = 50_000
    ids = pa.array([f"{n:016d}" for n in range(num_rows)])
    accounts = Accounts(num_read=num_rows, num_duplicates=0, quarantine=pa.table({"reason": pa.array([], pa.string())}),
                        ids=ids, parts_N=np.zeros(num_rows, np.int64), rows_N=np.arange(num_rows), not_used={}, ways={})
    shards = _plan_shards(accounts, 100)
    assert [len(shard["ids"]) for shard in shards] == [100] * 500
    assert pa.concat_arrays([shard["ids"] for shard in shards]).equals(ids)
    assert max(len(pickle.dumps(shard)) for shard in shards) < 10_000
