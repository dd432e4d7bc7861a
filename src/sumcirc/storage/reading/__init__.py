"""Reading of records with checks: JSON, YAML, safetensors and Parquet files.

    status = read_json(folder / "status.json", Status)
    metadata, arrays = read_tensors(folder / "base.safetensors")
    rows = read_table(folder / "documents.parquet", {"id": str, "rouge1_f1": float | None})

Any defect of a file raises `RecordError`, a UserError that names the file, the key and the reason
in one line; a caller that lists damaged records next to valid ones catches it, and all others let
it pass to the command line. `shapes` describes how the expected shape is declared.

A file is read only if it is regular (a FIFO would block, a device may never end) and not larger
than a limit. Nesting is limited before a parser recurses into it, and YAML aliases by the size that
they expand to. Numbers must be finite and fit in 64 bits: our own files are written that way.
"""

from sumcirc.storage.reading.arrays import (
    read_table,
    read_tensors,
    require_array,
    table_batches,
    table_columns,
    table_rows,
)
from sumcirc.storage.reading.regular import (
    LARGEST,
    RecordError,
    is_there,
    open_regular,
    read_bytes,
    read_text,
    require_regular,
)
from sumcirc.storage.reading.shapes import Count, Keys, Number, Range, Share
from sumcirc.storage.reading.texts import (
    check_yaml,
    check_yaml_folder,
    fitted,
    parse_json,
    read_json,
    read_yaml,
)

__all__ = [
    "LARGEST",
    "Count",
    "Keys",
    "Number",
    "Range",
    "RecordError",
    "Share",
    "check_yaml",
    "check_yaml_folder",
    "fitted",
    "is_there",
    "open_regular",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_table",
    "read_tensors",
    "read_text",
    "read_yaml",
    "require_array",
    "require_regular",
    "table_batches",
    "table_columns",
    "table_rows",
]
