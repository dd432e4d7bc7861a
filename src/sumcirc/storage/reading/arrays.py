"""Arrays of safetensors files and rows of Parquet files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.storage.reading.regular import RecordError, require_regular, unfit
from sumcirc.storage.reading.shapes import Unfit, fit

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

BATCH = 1024  # rows
LEAST_LIMIT = 2**28  # bytes that any Parquet file may expand to
MOST_EXPANSION = 100  # factor by which a larger file may expand; text shrinks 3 to 10 times


def read_tensors(path: Path | str) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Return the metadata and the arrays of a safetensors file, both by name.

    Raises:
        RecordError: the file can't be read.
    """
    from safetensors import safe_open

    require_regular(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # the reader raises SafetensorError, OSError, and TypeError for a type that numpy lacks
    except Exception as error:
        raise RecordError(path, f"is not a readable safetensors file ({error})") from None


def require_array(
    arrays: Mapping[str, NDArray[Any]], name: str, path: Path | str, *, ndim: int
) -> NDArray[np.floating[Any]]:
    """Return one of the arrays of a safetensors file after checking its type and axes.

    Args:
        arrays: the file's arrays by name, as `read_tensors` returns them.
        name: name of the array.
        path: the file, for messages.
        ndim: expected number of axes.

    Raises:
        RecordError: the array is missing, has another number of axes, or isn't floating point.
    """
    if name not in arrays:
        raise RecordError(path, "is missing", name)
    array = arrays[name]
    if array.ndim != ndim or array.dtype.kind != "f":
        reason = f"has {array.ndim} axes of {array.dtype}, not {ndim} of floating point numbers"
        raise RecordError(path, reason, name)
    return array


def read_table(path: Path | str, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all rows of a Parquet file, each as values by column name.

    Args:
        path: the file.
        columns: the expected shape (see `shapes`) of the values in each required column. Other
            columns are returned unchecked.

    Raises:
        RecordError: the file can't be read or lacks a column, or a value has another shape.
    """
    return list(table_rows(path, columns, table_columns(path)))


def table_rows(
    path: Path | str, columns: Mapping[str, Any], others: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, each as values by column name.

    Args:
        path: the file.
        columns: the expected shape (see `shapes`) of the values in each required column.
        others: names of further columns, which are returned unchecked if they exist.

    Raises:
        RecordError: the file can't be read or lacks a column, or a value has another shape.
    """
    absent = set(columns) - set(table_columns(path))
    if absent:
        raise RecordError(path, "is missing", min(absent))
    number = 0
    for batch in table_batches(path, {*columns, *others}):
        for row in batch:
            number += 1
            for name, shape in columns.items():
                try:
                    row[name] = fit(row[name], shape)
                except Unfit as error:
                    raise unfit(path, error, f"{name} of row {number}") from None
            yield row


def table_columns(path: Path | str) -> list[str]:
    """Return the names of a Parquet file's columns, in the file's order.

    Raises:
        RecordError: the file can't be read.
    """
    file = _open_table(path)
    return list(file.schema_arrow.names)


def table_batches(
    path: Path | str, columns: Collection[str] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a Parquet file in batches, each row as values by column name.

    The size of the rows in memory is computed before they are created, since a column that repeats
    one long text takes almost no space in the file.

    Args:
        path: the file.
        columns: names of the columns to read; None for all.

    Raises:
        RecordError: the file can't be read, is damaged, or takes far more memory than disk space.
    """
    file = _open_table(path)
    limit = max(LEAST_LIMIT, MOST_EXPANSION * require_regular(path))
    about = file.metadata
    chunks = [
        about.row_group(i).column(j)
        for i in range(about.num_row_groups)
        for j in range(about.num_columns)
    ]
    if sum(8 * chunk.num_values + chunk.total_uncompressed_size for chunk in chunks) > limit:
        raise _expands(path, limit)
    wanted = [name for name in file.schema_arrow.names if columns is None or name in columns]
    done = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH, columns=wanted):
            limit -= sum(map(_text_bytes, batch.columns))
            if limit < 0:
                raise _expands(path, max(LEAST_LIMIT, MOST_EXPANSION * require_regular(path)))
            rows = batch.to_pylist()
            done += len(rows)
            yield rows
    except RecordError:
        raise
    # ArrowException, OSError, and others for values without a Python type
    except Exception as error:
        raise RecordError(path, f"is damaged after row {done} ({_first_line(error)})") from None


def _open_table(path: Path | str) -> Any:
    from pyarrow import parquet

    require_regular(path)
    try:
        found = parquet.ParquetFile(path)
        texts = [column.path for column in found.schema if column.physical_type == "BYTE_ARRAY"]
        # repeated texts are stored once, and expanded only into rows
        return parquet.ParquetFile(path, read_dictionary=texts)
    except Exception as error:
        raise RecordError(path, f"is not a readable Parquet file ({_first_line(error)})") from None


def _text_bytes(array: pyarrow.Array) -> int:
    """Return the bytes of all texts in an array, counting repeated ones."""
    import pyarrow
    import pyarrow.compute

    compute: Any = pyarrow.compute

    kind = array.type
    if pyarrow.types.is_dictionary(kind):
        if not len(array.dictionary):
            return 0
        lengths = compute.binary_length(array.dictionary)
        return compute.sum(compute.take(lengths, array.indices)).as_py() or 0
    if pyarrow.types.is_struct(kind):
        return sum(map(_text_bytes, array.flatten()))
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        return _text_bytes(array.flatten())
    return array.nbytes


def _expands(path: Path | str, limit: int) -> RecordError:
    return RecordError(path, f"expands to more than {limit:,} bytes, far more than its own size")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
