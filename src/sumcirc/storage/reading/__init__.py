"""The one place small records are read: JSON, YAML, safetensors and Parquet files.

    status = read_json(folder / "status.json", Status)
    metadata, arrays = read_tensors(folder / "base.safetensors")
    rows = read_table(folder / "documents.parquet", {"id": str, "rouge1_f1": float | None})

Whatever is wrong with a file ends in `RecordError`, a UserError that names the file, the key and
the reason in one line; so a caller that lists the good records beside the bad ones catches
`RecordError` and shows it, and all others let it pass to the command line. `shapes` says how the
expected shape is declared.

A file is read only if it is a regular one (a FIFO would block, a device never end) and not larger
than a limit. Nesting is limited before a parser recurses into it, YAML's aliases by what they
expand to. Numbers are finite and of at most 64 bits: our own files are written so.
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
