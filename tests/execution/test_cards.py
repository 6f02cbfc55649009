"""The table of GPUs."""

import pytest

from s2l_ray.errors import InputError
from s2l_ray.execution.cards import CARDS, card_here, find_card


@pytest.mark.parametrize(("asked", "name"), [("h100", "h100"), ("H100", "h100"), ("A100-80GB", "a100-80"), ("NVIDIA_L4", "l4"),
                                             ("RTX 4090", "rtx4090")])
def test_a_card_is_found_however_it_is_written(asked, name):
    assert find_card(asked).name == name


def test_an_unknown_card_names_those_that_are_known():
    with pytest.raises(InputError, match=r"--card h1000: known are t4, .*h100, h200"):
        find_card("h1000")


def test_where_a_card_has_no_bf16_it_multiplies_in_fp32():
    assert CARDS["t4"].rate("bf16") == CARDS["t4"].rate("fp32") == 8.1e12
    assert CARDS["h100"].rate("bf16") == 989e12


def test_a_machine_without_a_gpu_asks_for_a_name():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(InputError, match="this machine has no GPU: name the GPU that it will run on with --card"):
        card_here()
