"""Parquet."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s2l_ray.errors import InputError
from s2l_ray.rows.file_format import TypedFormat
from s2l_ray.rows.streams import open_input
from s2l_ray.tables.schemas import refuse_code, without_views

_BATCH_ROWS = 1024
_BUFFER_BYTES = 1 << 20


class Parquet(TypedFormat):
    """Rows are the table's; a file of none is valid, as Spark writes them."""

    name = "parquet"
    endings = (".parquet",)

    def num_rows(self, uri: str) -> int:
        """Return the number of rows that the file's footer states."""
        with _open_parquet(uri) as file:
            return int(file.metadata.num_rows)

    def schema(self, uri: str) -> pa.Schema:
        """Return the schema of a Parquet file.

        Raises
        ------
        InputError
            The file is missing or not readable as Parquet.
        """
        with _open_parquet(uri) as file:
            return without_views(file.schema_arrow)

    def batches(self, uri: str, first_row: int, num_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield `num_rows` rows from `first_row` (0-based) on, in batches of at most 1,024 rows.

        Only the row groups that hold them are read, and of those nothing behind the last row.

        Raises
        ------
        InputError
            A row group is corrupt, or the file has become shorter.
        """
        stop = first_row + num_rows
        with _open_parquet(uri) as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            ends = np.cumsum([0, *sizes])
            if stop > ends[-1]:
                raise InputError(
                    f"{uri}: changed since it was scanned: {ends[-1]} rows instead of {stop} or more"
                )
            groups = [i for i in range(len(sizes)) if ends[i] < stop and ends[i + 1] > first_row]
            position = int(ends[groups[0]]) if groups else stop
            try:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups):
                    start, end = max(first_row - position, 0), min(stop - position, batch.num_rows)
                    position += batch.num_rows
                    if start < end:
                        rows = batch.slice(start, end - start)
                        yield rows.cast(without_views(rows.schema))
                    if position >= stop:
                        return
            except (pa.ArrowException, OSError) as error:
                where = f"rows {first_row + 1} to {stop} cannot be read"
                raise InputError(f"{uri}: {where}, the file is corrupt: {error}") from error


@contextlib.contextmanager
def _open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    with open_input(uri) as source:
        try:
            # Unbuffered, a reader would hold whole column chunks, which may be gigabytes.
            file = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
            _ = file.schema_arrow.names  # which may be no texts in a damaged footer
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise InputError(f"{uri}: not a readable Parquet file: {error}") from error
        refuse_code(file.schema_arrow, uri)
        yield file


FORMAT = Parquet()
