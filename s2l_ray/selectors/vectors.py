"""Embeddings at unit length, of a pool's examples and of those of the tasks wanted."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.tables.schemas import vectors_matrix


def unit_rows(table: pa.Table) -> np.ndarray:
    """Return the column embedding at unit length, (N, D) float32.

    Raises
    ------
    InputError
        Its lists are not of one length, or one has no direction.
    """
    rows_ND = vectors_matrix(table, "embedding")
    with np.errstate(over="ignore"):  # a length beyond float32 is found below and named
        norms_N = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    if not (norms_N > 0).all():
        raise InputError(f"{int((norms_N == 0).sum())} embeddings are all zero and have no direction")
    if not np.isfinite(norms_N).all():
        too_long = int((~np.isfinite(norms_N)).sum())
        raise InputError(f"{too_long} embeddings are longer than float32 can hold: divide all by one number")
    return np.asarray(rows_ND / norms_N)


def task_rows(table: pa.Table | None, width: int) -> tuple[np.ndarray, ...]:
    """Return the embeddings of each task's examples, (M, D) float32, the tasks in the order of their first rows.

    Parameters
    ----------
    table
        With a column embedding, and a column task where the rows are of several.
    width
        Of the pool's embeddings, D.

    Raises
    ------
    InputError
        There is none, or the embeddings do not serve or are of another width.
    """
    if table is None or table.num_rows == 0:
        raise InputError("this selector needs examples of the tasks wanted: name some in selection.task_examples, for "
                         "example [{name: gsm8k, path: solved.jsonl}], or beside a table give --task-embeddings FILE")
    if "embedding" not in table.column_names:
        raise InputError(f"the task embeddings need a column embedding, they have {table.column_names}")
    rows_MD = unit_rows(table)
    if rows_MD.shape[1] != width:
        raise InputError(f"the tasks' embeddings have {rows_MD.shape[1]} numbers, the pool's have {width}: one model "
                         "must make both")
    if "task" not in table.column_names:
        return (rows_MD,)
    if table["task"].null_count:
        raise InputError(f"the task embeddings have {table['task'].null_count} rows without a task: name it")
    names = table["task"].combine_chunks().dictionary_encode()
    codes_M = pc.cast(names.indices, pa.int64()).to_numpy()
    return tuple(rows_MD[codes_M == code] for code in range(len(names.dictionary)))
