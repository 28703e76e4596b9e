"""Which images and labels does a FILE.npz hold? What it is called and how large it is follows from its directory alone."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from vitbench.data.arrays import (
    OPTIONAL,
    REQUIRED,
    ArraySplit,
    Kind,
    array_kind,
    check_alike,
    check_classes,
    checked_labels,
    checked_layout,
    checked_names,
)
from vitbench.data.decode import StoredImage
from vitbench.data.listing import change_times
from vitbench.data.source import Source, content_hash
from vitbench.files import error_reason
from vitbench.text import did_you_mean, printable

_LOCAL_HEADER = 30
"""Bytes before the name in a zip's local header, which ends with the lengths of the name and of what follows it."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, SyntaxError)
"""What zipfile and numpy raise for bytes that they cannot read: other methods of compression and passwords too."""


@dataclass(frozen=True)
class _Member:
    """An array of the file, not yet read."""

    file: Path
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    header_bytes: int

    @property
    def is_stored(self) -> bool:
        """Whether it is not compressed, and so can be mapped."""
        return self.info.compress_type == zipfile.ZIP_STORED

    def mapped(self) -> np.ndarray:
        with self.file.open("rb") as file:
            file.seek(self.info.header_offset)
            local = file.read(_LOCAL_HEADER)
        lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        start = self.info.header_offset + _LOCAL_HEADER + lengths + self.header_bytes
        order: Literal["F", "C"] = "F" if self.fortran_order else "C"
        array: np.ndarray = np.memmap(self.file, self.dtype, mode="r", offset=start, shape=self.shape, order=order)
        return array

    def read(self) -> np.ndarray:
        """All of it, checked against the zip's checksum, which zipfile compares as the last byte is read."""
        with zipfile.ZipFile(self.file) as archive, archive.open(self.info) as member:
            array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
        return array

    def rows(self) -> Iterator[np.ndarray]:
        """The same image by image, of which no two have to be in memory."""
        if self.fortran_order:
            yield from self.read()
            return
        num_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        with zipfile.ZipFile(self.file) as archive, archive.open(self.info) as member:
            member.read(self.header_bytes)
            for _ in range(self.shape[0]):
                row = member.read(num_bytes)
                if len(row) < num_bytes:
                    raise EOFError("it ends too early")
                yield np.frombuffer(row, self.dtype).reshape(self.shape[1:])


class NpzSplit(ArraySplit):
    """Images of one array of the file; those of a compressed one can only be read from its start."""

    kind: Kind

    def __init__(self, member: _Member, labels: np.ndarray, place: str, *, kind: Kind, names: list[str]) -> None:
        super().__init__((), labels, place, kind=kind, names=names)
        self.member = member
        self.random_access = member.is_stored

    @cached_property
    def _mapped(self) -> np.ndarray:
        return self.member.mapped()

    def _read(self, index: int) -> tuple[StoredImage, int]:
        if not self.random_access:
            raise ValueError("it is compressed; save the file with numpy.savez, without compression")
        return self.kind.channels_first(self._mapped[index]), int(self._labels[index])

    def __iter__(self) -> Iterator[tuple[StoredImage, int]]:
        try:
            for image, label in zip(self.member.rows(), self._labels.tolist(), strict=True):
                yield self.kind.channels_first(image), label
        except (*_DAMAGED, OSError) as error:
            raise ValueError(f"{self.title} cannot be read ({error_reason(error)}); save it again") from error


def find_npz(file: Path, dataset: str) -> Source:
    """The file as a data set. Raises ValueError where it is none, or where an array is missing."""
    title = f"dataset {dataset!r}"
    infos = _directory(file, title)
    missing = [name for name in REQUIRED if name not in infos]
    if missing:
        held = ", ".join(sorted(infos)[:8]) or "nothing"
        hint = did_you_mean(
            missing[0], [name for name in infos if name not in REQUIRED], f"it needs {', '.join(REQUIRED)}"
        )
        raise ValueError(f"{title} has no {missing[0]}, but {printable(held)}; {hint}")
    used = {name: infos[name] for name in (*REQUIRED, *OPTIONAL) if name in infos}
    if _same(used["train_images"], used["test_images"]):
        raise ValueError(f"{title} is tested on what it trains on: test_images equal train_images; give others")
    # Of what is stored, not of how: the same arrays have the same name compressed or not.
    content = [(name, info.file_size, info.CRC) for name, info in sorted(used.items())]
    unused = sorted(set(infos) - set(used))
    status = file.stat()
    canonical = f"{printable(file.resolve().stem)}@{content_hash(content)[:8]}"
    return Source(
        dataset=canonical,
        name="",
        root=file,
        train="train_images",
        tests=("test_images",),
        fingerprint=content_hash([str(file.absolute()), status.st_size, change_times(status), content]),
        notes=(f"{canonical}: not used of the file: {', '.join(map(printable, unused[:8]))}",) if unused else (),
        open_arrays=partial(_open, file, title, canonical, used),
    )


def _directory(file: Path, title: str) -> dict[str, zipfile.ZipInfo]:
    """By the names of arrays."""
    if not file.is_file():
        raise ValueError(f"{title} is no file that can be read; give one that numpy.savez wrote")
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except OSError:
        raise
    except _DAMAGED as error:
        raise ValueError(f"{title} is no .npz file ({error_reason(error)}); write it with numpy.savez") from error
    names = [info.filename.removesuffix(".npy") for info in infos]
    if twice := next((name for name in names if names.count(name) > 1), None) if len(names) < 1000 else None:
        raise ValueError(f"{title} holds {printable(twice)} twice; save it again")
    return dict(zip(names, infos, strict=True))


def _same(one: zipfile.ZipInfo, other: zipfile.ZipInfo) -> bool:
    return (one.CRC, one.file_size) == (other.CRC, other.file_size)


def _open(file: Path, title: str, canonical: str, infos: dict[str, zipfile.ZipInfo]) -> tuple[NpzSplit, NpzSplit]:
    members = {name: _member(file, info, f"{title}: {name}") for name, info in infos.items()}
    layout = checked_layout(_small(members, "layout", title), title)
    names = checked_names(_small(members, "class_names", title), title)
    train, test = (f"{split}_images" for split in ("train", "test"))
    kinds = {
        name: array_kind(members[name].shape, members[name].dtype, f"{title}: {name}", layout) for name in (train, test)
    }
    check_alike(kinds[train], kinds[test], title)
    labels = {
        name: checked_labels(
            _small(members, f"{split}_labels", title), members[name].shape[0], f"{title}: {split}_labels"
        )
        for split, name in (("train", train), ("test", test))
    }
    notes = check_classes(labels[train], labels[test], names, title)
    splits = [
        NpzSplit(members[name], labels[name], f"{title}: {name}", kind=kinds[name], names=names)
        for name in (train, test)
    ]
    for split, which in zip(splits, ("train", "test"), strict=True):
        split.title = f"the {which} split of {canonical!r}"
    splits[0].notes = [f"{canonical}: {note}" for note in notes]
    return splits[0], splits[1]


def _member(file: Path, info: zipfile.ZipInfo, title: str) -> _Member:
    try:
        with zipfile.ZipFile(file) as archive, archive.open(info) as member:
            shape, fortran_order, dtype = _header(member)
            header_bytes = member.tell()
    except OSError:
        raise
    except _DAMAGED as error:
        raise ValueError(f"{title} cannot be read ({error_reason(error)}); save it again") from error
    if dtype.hasobject:
        raise ValueError(f"{title} is an array of Python objects, which would need pickle; give numbers or texts")
    num_bytes = header_bytes + dtype.itemsize * int(np.prod(shape, dtype=object))
    if num_bytes != info.file_size:
        raise ValueError(f"{title} has {info.file_size:,} bytes, where its header says {num_bytes:,}; save it again")
    return _Member(file, info, shape, fortran_order, dtype, header_bytes)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _small(members: dict[str, _Member], name: str, title: str) -> np.ndarray | None:
    if name not in members:
        return None
    try:
        return members[name].read()
    except (*_DAMAGED, MemoryError) as error:
        raise ValueError(f"{title}: {name} cannot be read ({error_reason(error)}); save it again") from error
