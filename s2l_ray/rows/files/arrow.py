"""Arrow's own files: Feather version 2, and the streams that the library `datasets` saves."""

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.rows.file_format import TypedFormat
from s2l_ray.rows.streams import open_input
from s2l_ray.tables.schemas import refuse_code, without_views


class Arrow(TypedFormat):
    """Rows are the table's, read one record batch at a time."""

    name = "arrow"
    endings = (".arrow", ".feather")

    def num_rows(self, uri: str) -> int:
        """Return the rows of all record batches."""
        with _opened(uri) as (_, batches):
            return sum(batch.num_rows for batch in batches)

    def schema(self, uri: str) -> pa.Schema:
        """Return the columns with their types."""
        with _opened(uri) as (schema, _):
            return without_views(schema)

    def batches(self, uri: str, first_row: int, num_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows; what lies before them is skipped, and what lies behind is not read.

        Raises
        ------
        InputError
            The file is damaged, or has become shorter.
        """
        left = num_rows
        with _opened(uri) as (schema, batches):
            for batch in batches:
                found = batch.slice(min(first_row, batch.num_rows), left)
                first_row, left = max(first_row - batch.num_rows, 0), left - found.num_rows
                if found.num_rows:
                    yield found.cast(without_views(schema))
                if not left:
                    return
        raise InputError(f"{uri}: changed since it was scanned: {left} rows fewer")


@contextlib.contextmanager
def _opened(uri: str) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Give the schema and the record batches, of a file or of a stream."""
    with open_input(uri) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        try:
            reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
            refuse_code(reader.schema, uri)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else iter(reader)
            yield reader.schema, batches
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{uri}: not a readable Arrow file: {error}") from error


FORMAT = Arrow()
