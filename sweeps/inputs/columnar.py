"""Tables in Parquet and Arrow files."""

from __future__ import annotations

from typing import IO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pinncore.errors import DataError

from .sheet import Sheet

MOST_BYTES: Final = 2**32  # of a table in memory, as the file states them


def read(source: str, stream: IO[bytes]) -> Sheet:
    """Return the table of a Parquet file, an Arrow file or an Arrow stream. Raises `DataError`."""
    try:
        start = stream.read(6)
        stream.seek(0)
        if start.startswith(b"PAR1"):
            return Sheet(source, _parquet(source, stream))
        reader = pa.ipc.open_file(stream) if start == b"ARROW1" else pa.ipc.open_stream(stream)
        return Sheet(source, reader.read_all())
    except (pa.ArrowException, OSError) as problem:
        raise DataError(f"{source} cannot be read: {' '.join(str(problem).split())}") from None


def _parquet(source: str, stream: IO[bytes]) -> pa.Table:
    file = pq.ParquetFile(stream)
    metadata = file.metadata
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    size = max(size, 8 * metadata.num_rows)
    if size > MOST_BYTES:
        raise DataError(f"{source} states {size:,} bytes, and a table may have {MOST_BYTES:,}")
    return file.read()
