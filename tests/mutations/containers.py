"""Damage to files with arrays: safetensors, Parquet and the ZIP archives of checkpoints."""

from __future__ import annotations

import datetime
import json
import random
import struct
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.mutations.mutating import BINARY, Draw, Mutation, change_value, of_bytes


def _header(content: bytes) -> tuple[dict[str, Any], bytes]:
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def tensor_header(chance: random.Random) -> Mutation:
    """A value in the header of a safetensors file, or in the JSON that its metadata hold."""
    seed, inside = chance.random(), chance.random() < 0.6

    def change(content: bytes) -> bytes:
        own = random.Random(seed)
        header, arrays = _header(content)
        metadata = header.get("__metadata__", {})
        key = next((key for key, value in metadata.items() if value.startswith("{")), None)
        if inside and key is not None:
            _, body = change_value(json.loads(metadata[key]), own)
            metadata[key] = json.dumps(body)
        else:
            _, header = change_value(header, own)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + arrays

    return Mutation(f"a value of the header (draw {seed})", of_bytes(change))


def tensor_values(chance: random.Random) -> Mutation:
    """An array of another size, type or name, or with values that can't be."""
    seed = chance.random()

    def apply(path: Path) -> None:
        import numpy as np
        from safetensors import safe_open
        from safetensors.numpy import save_file

        own = random.Random(seed)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
        name = own.choice(list(arrays))
        array = arrays[name]
        how = own.choice(["drop", "rename", "value", "value", "value", "type", "axis", "size", "0"])
        if how == "drop":
            del arrays[name]
        elif how == "rename":
            arrays[f"{name}x"] = arrays.pop(name)
        elif how == "value":
            array.flat[own.randrange(max(array.size, 1))] = own.choice(
                [np.nan, np.inf, -np.inf, -1e30, 3e4, -1.0]
            )
        elif how == "type":
            arrays[name] = np.nan_to_num(array).astype(own.choice(["int8", "int64", "bool", "f8"]))
        elif how == "axis":
            arrays[name] = own.choice([array[None], array.ravel(), np.asarray(array.flat[0])])
        elif how == "size":
            arrays[name] = np.ascontiguousarray(
                own.choice([array[:-1], np.concatenate([array, array])])
            )
        else:
            arrays[name] = np.zeros((0, *array.shape[1:]), array.dtype)
        save_file(arrays, path, metadata)

    return Mutation(f"an array (draw {seed})", apply)


TENSORS: list[Draw] = [*BINARY, tensor_header, tensor_header, tensor_values, tensor_values]


# what Parquet has a type for
IN_TABLES = [
    None,
    True,
    0,
    -1,
    3.5,
    1e308,
    float("nan"),
    "",
    "\0",
    "x" * 10_000,
    [],
    [1],
    ["x", None],
]
IN_TABLES += [{"x": 1}, b"\xff", datetime.date(2020, 1, 1), datetime.timedelta(1), Decimal("1.5")]


def columns(chance: random.Random) -> Mutation:
    """A column of a Parquet file dropped, renamed or of another type, or a value changed."""
    seed = chance.random()

    def apply(path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        own = random.Random(seed)
        table = parquet.ParquetFile(path).read()
        rows = table.to_pylist()
        name = own.choice(table.column_names)
        how = own.choice(["drop", "rename", "value", "value", "type", "rows", "none", "null"])
        if how == "drop":
            table = table.drop_columns([name])
        elif how == "rename":
            table = table.rename_columns([f"{n}x" if n == name else n for n in table.column_names])
        elif how == "none":
            table = table.slice(0, 0)
        elif how == "rows":
            kept = own.sample(rows, max(1, len(rows) // 2))
            table = pyarrow.Table.from_pylist(kept, schema=table.schema)
        else:
            new = own.choice(IN_TABLES)
            values = [row[name] for row in rows]
            if how == "value" and isinstance(values[0], float):
                values[own.randrange(len(values))] = own.choice([float("nan"), -1e30, 1e308, None])
            elif how == "value":
                values[own.randrange(len(values))] = None
            elif how == "type":
                values = [new] * len(values)
            else:
                values = [None] * len(values)
            at = table.column_names.index(name)
            table = table.set_column(at, name, pyarrow.array(values))
        parquet.write_table(table, path)

    return Mutation(f"a column (draw {seed})", apply)


def table_bomb(chance: random.Random) -> Mutation:
    """Repeated rows that take no room in the file and gigabytes outside."""
    rows = chance.choice([100_000, 2_000_000])

    def apply(path: Path) -> None:
        import numpy as np
        import pyarrow
        from pyarrow import parquet

        first = parquet.ParquetFile(path).read().slice(0, 1).to_pylist()[0]
        index = pyarrow.array(np.zeros(rows, np.int32))
        first = {
            key: value * (2**33 // rows // max(len(value), 1)) if isinstance(value, str) else value
            for key, value in first.items()
        }
        found = {
            key: pyarrow.DictionaryArray.from_arrays(index, pyarrow.array([value]))
            if isinstance(value, str)
            else pyarrow.array([value] * rows)
            for key, value in first.items()
        }
        parquet.write_table(pyarrow.table(found), path, compression="zstd")

    return Mutation(f"{rows:,} rows that are one", apply)


TABLE: list[Draw] = [*BINARY, columns, columns, columns, columns, table_bomb]


def checkpoint_values(chance: random.Random) -> Mutation:
    """A key or value of a checkpoint changed, and it written again."""
    seed = chance.random()

    def apply(path: Path) -> None:
        import torch

        body = torch.load(path, weights_only=True)
        _, body = change_value(body, random.Random(seed))
        try:
            torch.save(body, path)
        except RecursionError:
            torch.save({}, path)

    return Mutation(f"a value (draw {seed})", apply)


def archive(chance: random.Random) -> Mutation:
    """A file of a ZIP archive changed, dropped or compressed."""
    seed = chance.random()

    def apply(path: Path) -> None:
        own = random.Random(seed)
        with zipfile.ZipFile(path) as opened:
            files = {one.filename: opened.read(one) for one in opened.infolist()}
        name = own.choice([*files, next(name for name in files if name.endswith("data.pkl"))])
        how = own.choice(["drop", "cut", "flip", "empty", "packed", "rename"])
        if how == "drop":
            del files[name]
        elif how == "rename":
            files[f"{name}x"] = files.pop(name)
        elif how == "cut":
            files[name] = files[name][: len(files[name]) // 2]
        elif how == "flip" and files[name]:
            found = bytearray(files[name])
            found[own.randrange(len(found))] ^= 1 << own.randrange(8)
            files[name] = bytes(found)
        elif how == "empty":
            files[name] = b""
        packed = zipfile.ZIP_DEFLATED if how == "packed" else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", packed) as made:
            for key, body in files.items():
                made.writestr(key, body)

    return Mutation(f"an archived file (draw {seed})", apply)


CHECKPOINT: list[Draw] = [*BINARY, *[checkpoint_values] * 4, *[archive] * 2]
