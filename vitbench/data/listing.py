"""Which images are in a folder or a tar, of which class, and in which order? It follows from names alone.

The class of an image is the folder directly below the split. Imports no torch, and opens no image.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from vitbench.files import error_reason
from vitbench.text import counted

_EXTENSIONS = """
apng avif avifs blp bmp bw cur dcx dds dib fit fits flc fli ftc ftu gbr gif icb icns ico iim im j2c j2k jfif jp2 jpc jpe jpeg
jpf jpg jpx mpo msp pbm pcd pcx pfm pgm png pnm ppm psd pxr qoi ras rgb rgba sgi tga tif tiff vda vst webp xbm xpm
"""
EXTENSIONS = frozenset(_EXTENSIONS.split())
"""Of pictures that Pillow decodes itself. EPS, PostScript, EMF and WMF are left out, which it hands to other programs, and
MPEG, HDF5, GRIB and BUFR, of which it knows the names alone."""

_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""How files begin that these programs wrote."""
_MAX_LINKS = 40
"""As many as Linux follows from one name."""
_AFTER_THE_END = 2**16
"""Bytes behind a tar's end mark that are looked at; writers fill up to 10,240 with zeros."""


def change_times(status: os.stat_result) -> tuple[int, int]:
    """Of content and of status in ns: a file can be replaced by another of its size, and its first time be set back."""
    return status.st_mtime_ns, status.st_ctime_ns


class ImageFile(NamedTuple):
    """One image file of a split."""

    name: str
    """Below the split, with `/`: `cat/1.png`."""
    size: int
    """In bytes."""
    changed: tuple[int, int]
    """Its `change_times`; zeros within a tar, which has its own."""
    offset: int = 0
    """Where its bytes start in the tar."""
    identity: int = 0
    """Equal where links give one file several names; 0 where that is not known."""


class Listing(NamedTuple):
    """What a split holds."""

    files: list[ImageFile]
    """In natural order of their names."""
    unused: list[str]
    """Files that are not read as images, sorted. Hidden ones and those of operating systems are not counted."""
    empty: list[str]
    """Folders below the split in which no image lies, sorted."""

    @property
    def outside(self) -> str | None:
        """The first image that lies in no class folder."""
        return next((file.name for file in self.files if "/" not in file.name), None)

    def classes(self) -> list[str]:
        """Names of the folders below the split that hold images, in natural order, as they are stored."""
        return sorted({file.name.partition("/")[0] for file in self.files}, key=natural_key)

    def notes(self, title: str) -> list[str]:
        """What a user might not expect, a line each."""
        kinds = (
            (self.unused, "file is", "files are", "not read as images"),
            (self.empty, "folder holds", "folders hold", "no images"),
            (self._linked_again(), "file counts", "files count", "once more under another name, by links"),
        )
        notes = [
            f"{title}: {counted(len(names), singular, plural)} {what}, the first is {names[0]!r}"
            for names, singular, plural, what in kinds
            if names
        ]
        nested = next((file.name for file in self.files if file.name.count("/") > 1), None)
        if nested:
            label, _, below = nested.partition("/")
            notes.append(f"{title}: folders below a class count as that class: {below!r} is of class {label!r}")
        return notes

    def _linked_again(self) -> list[str]:
        """Further names of files that links give several."""
        first: dict[int, str] = {}
        identified = (file for file in self.files if file.identity)
        return [file.name for file in identified if first.setdefault(file.identity, file.name) != file.name]


def natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Sorts `a2` before `a10`, large letters like small ones; what is alike then goes by its characters, so that no two
    names tie.
    """
    parts = re.split("([0-9]+)", name.lower())
    digits = (part.lstrip("0") for part in parts[1::2])
    key: list[str | tuple[int, str]] = list(parts)
    key[1::2] = [(len(number), number) for number in digits]
    return key, name


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name was put there by a system or an editor, not by the user."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS or name.lower() in _SYSTEM_FILES


def is_image(name: str) -> bool:
    return "." in name and name.lower().rpartition(".")[2] in EXTENSIONS


def _is_other_file(name: str) -> bool:
    """Whether a broken link of this name was to a file that is no image: `notes.txt`, `README`."""
    last = name.rpartition("/")[2].lower()
    is_plain = re.fullmatch(r"(.+\.\w{1,5}|readme|licen[cs]e|copying|notice|authors|changelog|makefile)", last)
    return is_plain is not None and not is_image(last)


def list_split(path: str) -> Listing:
    """What a folder or a tar holds. Raises ValueError, naming the entry, where it cannot be listed or has no one meaning."""
    return list_folder(path) if Path(path).is_dir() else list_tar(path)


def list_folder(root: str) -> Listing:
    """Links are followed, but no folder is entered twice. Raises ValueError, naming the entry, for pipes, devices, links
    to nothing or into a circle that may stand for images, and folders that may not be read.
    """
    files: list[ImageFile] = []
    unused: list[str] = []
    entered: dict[tuple[int, int], str] = {}
    pending = [""]
    while pending:
        below = pending.pop()
        folder = f"{root}/{below}" if below else root
        try:
            place = Path(folder).stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise ValueError(f"folder {folder!r} cannot be listed ({error.strerror}); mend or remove it") from error
        earlier = entered.setdefault((place.st_dev, place.st_ino), below)
        if earlier != below:
            raise ValueError(
                f"folder {folder!r} is {f'{root}/{earlier}'.rstrip('/')!r} once more, by a link: its images would count "
                "twice; remove the link"
            )
        for entry in entries:
            if is_hidden(entry.name):
                continue
            name = f"{below}/{entry.name}" if below else entry.name
            status = _status(entry)
            if status is None:
                unused.append(name)
            elif stat.S_ISDIR(status.st_mode):
                pending.append(name)
            elif not is_image(entry.name):
                unused.append(name)
            elif stat.S_ISREG(status.st_mode):
                identity = hash((status.st_dev, status.st_ino)) if status.st_ino else 0
                files.append(ImageFile(name, status.st_size, change_times(status), identity=identity))
            else:
                kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no file")
                raise ValueError(f"image {entry.path!r} is {kind}; remove it")
    folders = {below for below in entered.values() if below and "/" not in below}
    return _listing(files, unused, folders)


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Of the file or folder, or of what it links to; None for a broken link that was to no image."""
    try:
        return entry.stat()
    except PermissionError as error:
        raise ValueError(f"file {entry.path!r} may not be looked at ({error.strerror}); make it readable") from error
    except OSError as error:
        if _is_other_file(entry.name):
            return None
        kind = "link" if entry.is_symlink() else "file"
        raise ValueError(f"{kind} {entry.path!r} leads nowhere ({error.strerror}); mend or remove it") from error


def _listing(files: list[ImageFile], unused: list[str], folders: set[str]) -> Listing:
    files.sort(key=lambda file: natural_key(file.name))
    empty = folders - {file.name.partition("/")[0] for file in files}
    return Listing(files, sorted(unused), sorted(empty))


class _Member(NamedTuple):
    """An entry of a tar, or of a tar in it: its name from the top, and where its bytes lie in the outermost file."""

    name: str
    info: tarfile.TarInfo
    offset: int


def list_tar(path: str) -> Listing:
    """Members are taken by name, whatever their order; tars in the tar are folders; folders that all images share are
    entered. Raises ValueError, naming the member, for names that occur twice or lead out, links to what is not there, and
    compressed tars.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            members: dict[str, _Member] = {}
            for member in _members(file):
                if member.name in members and not (member.info.isdir() and members[member.name].info.isdir()):
                    raise ValueError(f"{member.name!r} is in it twice")
                members[member.name] = member
            files, unused = [], []
            for member in members.values():
                if member.info.isdir():
                    continue
                if not is_image(member.name):
                    if member.info.issym() and not _is_other_file(member.name):
                        _resolve(member, members)
                    unused.append(member.name)
                    continue
                target = _resolve(member, members)
                if target.offset + target.info.size > size:
                    raise ValueError(f"it ends within {member.name!r}")
                files.append(ImageFile(member.name, target.info.size, (0, 0), target.offset))
    except Exception as error:  # whatever tarfile raises for bytes that are no tar
        raise ValueError(f"tar {path!r} cannot be listed ({error_reason(error)}); mend or make it again") from error
    shared = _shared_folder([file.name for file in files], split=Path(path).stem)
    files = [file._replace(name=file.name.removeprefix(shared)) for file in files]
    folders = {name.removeprefix(shared) for name in members if name.startswith(shared) and members[name].info.isdir()}
    return _listing(files, unused, {name for name in folders if "/" not in name})


def _members(file: IO[bytes], prefix: str = "", start: int = 0) -> Iterator[_Member]:
    with _open_tar(file, prefix) as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # of a million images it would keep a million
            parts = [part for part in info.name.split("/") if part not in ("", ".")]
            if ".." in parts:
                raise ValueError(f"{info.name!r} leads out of it")
            if not parts or any(map(is_hidden, parts)):
                continue
            name = prefix + "/".join(parts)
            if info.isreg() and name.lower().endswith(".tar"):
                inner = tar.extractfile(info)
                assert inner is not None
                yield from _members(inner, name[: -len(".tar")] + "/", start + info.offset_data)
            else:
                yield _Member(name, info, start + info.offset_data)
        _check_end(file, tar.offset)


def _open_tar(file: IO[bytes], prefix: str) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:", encoding="utf-8")
    except tarfile.ReadError as error:
        file.seek(0)
        head = file.read(8)
        for start, program in _COMPRESSED.items():
            if head.startswith(start):
                which = f"{prefix.rstrip('/') + '.tar'!r} in it" if prefix else "it"
                raise ValueError(f"{which} is compressed by {program}, and only plain tars are read") from error
        raise


def _check_end(file: IO[bytes], offset: int) -> None:
    """tarfile takes a damaged header, or the end of the file, for the end of the tar."""
    file.seek(offset)
    mark = file.read(tarfile.BLOCKSIZE)
    if any(mark):
        raise ValueError(f"its entry at byte {offset:,} is damaged")
    if len(mark) < tarfile.BLOCKSIZE:
        raise ValueError("it is cut short: its end mark is missing")
    if any(file.read(_AFTER_THE_END)):
        raise ValueError(f"there is more behind its end mark at byte {offset:,}; tars are not joined by `cat`")


def _resolve(member: _Member, members: dict[str, _Member]) -> _Member:
    """The file that `member` is, or that it links to."""
    target = member
    for _ in range(_MAX_LINKS):
        info = target.info
        if info.issparse():
            raise ValueError(f"{member.name!r} is stored with holes")
        if info.isreg():
            return target
        if info.islnk():
            linked = os.path.normpath(info.linkname.lstrip("/"))
        elif info.issym():
            folder = target.name.rpartition("/")[0]
            is_within = folder and not info.linkname.startswith("/")
            linked = os.path.normpath(f"{folder}/{info.linkname}" if is_within else info.linkname)
        else:
            raise ValueError(f"{member.name!r} is no file")
        if linked not in members:
            raise ValueError(f"{member.name!r} is a link to {info.linkname!r}, which is not in it")
        target = members[linked]
    raise ValueError(f"{member.name!r} is a link in a circle")


def _shared_folder(names: list[str], split: str) -> str:
    """`train/` where all images lie in folders below it, or where the split has that name; empty where there is none."""
    folders = {name.rpartition("/")[0] for name in names}
    shared = []
    for parts in zip(*(folder.split("/") for folder in folders), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    if "/".join(shared) in folders and shared[-1] != split:  # the last one is the class
        shared = shared[:-1]
    return "".join(f"{part}/" for part in shared)
