"""How are features exported? As `FILE.npz` or `FILE.parquet`, with ids and labels, batch by batch, whole or not at all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from vitbench.evaluation.features import write_array
from vitbench.files import cannot_write, replacing

Batches = Iterable[NDArray[np.float32]]


def check_export(path: Path) -> None:
    """Raises ValueError, before features are computed, for a name that says no format, or one that needs what is missing."""
    if path.suffix not in _WRITERS:
        raise ValueError(f"out {str(path)!r} has no format; give a name that ends with {' or '.join(_WRITERS)}")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ValueError(
            f"out {str(path)!r} needs pyarrow, which is not installed; pip install pyarrow, or give FILE.npz"
        )


def export(path: Path, batches: Batches, *, ids: NDArray[np.int64], labels: NDArray[np.int64], facts: Any) -> int:
    """Writes features (`batches` of float32 [B, D], N rows in all), `ids` [N], `labels` [N] and `facts`, any JSON.

    `check_export` must have passed `path`. Returns D. Raises ValueError where the file cannot be written.
    """
    try:
        with replacing(path) as new:
            return _WRITERS[path.suffix](new, batches, ids, labels, json.dumps(facts, ensure_ascii=False))
    except OSError as error:
        raise cannot_write("out", path, error, "give another --out") from error


def _write_npz(path: Path, batches: Batches, ids: NDArray[np.int64], labels: NDArray[np.int64], facts: str) -> int:
    """What `numpy.load` reads: `features`, `ids`, `labels`, `facts`. Not compressed: floats hardly shrink."""
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as file:
            width = write_array(cast(BinaryIO, file), batches, num_images=len(ids))
        for name, values in {"ids": ids, "labels": labels, "facts": np.array(facts)}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(cast(BinaryIO, file), values, allow_pickle=False)
    return width


def _write_parquet(path: Path, batches: Batches, ids: NDArray[np.int64], labels: NDArray[np.int64], facts: str) -> int:
    """Columns `id`, `label` and `features`, a list of D floats; `facts` in the schema's metadata under `vitbench`."""
    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    writer, done, width = None, 0, 0
    try:
        for values in batches:
            rows = slice(done, done + len(values))
            width = values.shape[1]
            lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), width)
            columns = {"id": pyarrow.array(ids[rows]), "label": pyarrow.array(labels[rows]), "features": lists}
            table = pyarrow.table(columns).replace_schema_metadata({"vitbench": facts})
            if writer is None:
                writer = parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            done += len(values)
        assert done == len(ids), f"{done} features of {len(ids)} images"
        return width
    finally:
        if writer is not None:
            writer.close()


_WRITERS = {".npz": _write_npz, ".parquet": _write_parquet}
