"""Shared by the tests of bad input: the command line in this process, and `prepare` without Ray."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from s2l_ray.cli.main import main
from s2l_ray.modeling.examples import ExampleMaker
from s2l_ray.modeling.models import load_tokenizer
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.rows.accounting import NARROW, settle
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.listing import file_names, list_files
from s2l_ray.rows.scanning import scan_file
from s2l_ray.rows.typed import unify_schemas
from s2l_ray.rows.units import plan_units

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|User|>", "<|Assistant|>"]


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.fixture(scope="session")
def trap():
    """A function (file) -> an object that leaves this file when its pickle is opened."""
    return Trap


@pytest.fixture
def s2l(capsys):
    """Run a command line in this process; returns (exit code, stdout, stderr on one line)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return ended.value.code or 0, output.out, " ".join(output.err.split())

    return run


@pytest.fixture(scope="session")
def quickstart_tokenizer():
    """The tokenizer that ships with the quickstart."""
    return load_tokenizer(ModelConfig(path=str(ASSETS / "proxy_base")))


@pytest.fixture
def write_files(tmp_path):
    """Write a folder of files, each given as bytes, text or a table; returns the folder."""

    def write(files: dict[str, bytes | str | pa.Table]) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            if isinstance(content, pa.Table):
                pq.write_table(content, folder / name)
            else:
                (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return write


@pytest.fixture
def accounts_of(write_files, quickstart_tokenizer):
    """Do to a folder of files what prepare does on Ray; returns (accounts, the kept rows in input order)."""

    def prepare(files, tokenizer=quickstart_tokenizer, **settings):
        folder = write_files(files)
        data = DataConfig(**{"path": str(folder), "prompt_style": "plain", "max_length": 64, **settings})
        uris = list_files(data.path, data.split)
        named = zip(uris, file_names(uris), strict=True)
        scans = tuple(scan_file(uri, rows_per_unit=4096, name=name) for uri, name in named)
        maker = ExampleMaker(data, find_shape(scans, data), tokenizer, unify_schemas(scans))
        parts = [maker.make(unit, None) for unit in plan_units(scans, 4096)]
        accounts = settle([part.select(NARROW) for part in parts], data)
        assert accounts.num_read == sum(scan.num_rows for scan in scans) or data.turns == "each"
        assert accounts.num_read == accounts.num_examples + accounts.num_duplicates + accounts.num_quarantined
        assert len(set(accounts.ids.to_pylist())) == accounts.num_examples
        kept = [parts[part].slice(row, 1) for part, row in zip(accounts.parts_N, accounts.rows_N, strict=True)]
        return accounts, pa.concat_tables(kept, promote_options="default") if kept else parts[0].slice(0, 0)

    return prepare


@pytest.fixture(scope="module")
def tokenizer_of():
    """Return a maker of byte-level tokenizers with a chat template."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator([], trainers.BpeTrainer(vocab_size=300, special_tokens=_SPECIAL, initial_alphabet=alphabet))

    def make(chat_template):
        return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>",
                                       chat_template=chat_template)

    return make
