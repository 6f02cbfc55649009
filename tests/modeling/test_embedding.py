"""Means of the last hidden state: .venv/bin/pytest tests/modeling/test_embedding.py"""

import pyarrow as pa
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from s2l_ray.modeling.batching import ExampleTable
from s2l_ray.modeling.embedding import mean_embeddings
from tests.modeling.architectures import PLAIN_HEAD


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
def test_a_padded_batch_gives_each_examples_own_mean(pooling):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type="llama", **PLAIN_HEAD["llama"])).eval()
    ids = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]
    table = pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32())), "supervised": [[True] * len(one) for one in ids],
                      "num_tokens": pa.array(map(len, ids), pa.int32())})
    found = mean_embeddings(model, ExampleTable(table).batch(slice(0, 3), pad_id=0, multiple=1), pooling)
    for own, vector in zip(ids, found, strict=True):
        with torch.no_grad():
            hidden_TD = model.base_model(torch.tensor([own])).last_hidden_state[0]
        weights = torch.arange(1, len(own) + 1) if pooling == "weighted_mean" else torch.ones(len(own))
        mean = (hidden_TD * weights[:, None]).sum(dim=0) / weights.sum()
        assert torch.allclose(vector, mean / mean.norm(), atol=1e-5)
