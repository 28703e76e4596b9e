"""How does a stored image become an array of the size and channels that were asked for? It is what a viewer shows.

The decoded cache and the streamed images both come from this module, so their pixels are equal.
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import IO, Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

GREY_MODES = ("1", "L")
MAX_PIXELS = 89_478_485
"""Pillow's limit, above which it warns of a decompression bomb: 0.36 GB as RGB."""
MAX_SIDE = 10_000_000
"""In pixels. Pillow keeps a pointer for every row: 2 GB for 80 million rows of one pixel each."""
MAX_BYTES = 2**29
"""Of one file. Pillow reads files of some formats into memory at once."""
MAX_READS = 500_000
"""Of one file. Pillow reads headers byte by byte, comments and padding too: 50 MB of these take many seconds."""
_TOO_DEEP = ("I", "F")  # PIL would clip 16-bit and float pixels to 255 in silence
_OTHER_PROGRAMS = ("EPS", "WMF")
"""What Pillow hands to Ghostscript or Windows."""
_ORIENTATION = 0x0112
_METADATA = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow keeps an orientation. It turns TIFF itself."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what undoes it (EXIF 2.32, 4.6.4 A)."""


def read_image(file: IO[bytes], name: str = "") -> Image.Image:
    """The picture in `file` as `as_shown` gives it; of several frames the first. The ending of `name` tells its format.

    Raises whatever Pillow raises for bytes that it cannot read, and ValueError for more than `MAX_PIXELS`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, which no pixel depends on
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            opened = Image.open(cast(IO[bytes], _FewReads(file)), formats=_formats(name.rpartition(".")[2].lower()))
        except UnidentifiedImageError as error:  # its message holds an address in memory
            raise ValueError("it is of no image format that Pillow knows") from error
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width:,} × {image.height:,} pixels are more than {MAX_PIXELS:,}")
            if max(image.size) > MAX_SIDE:
                raise ValueError(f"its longer side has {max(image.size):,} pixels, more than {MAX_SIDE:,}")
            image.load()
            return as_shown(image)


class _FewReads:
    """A file that raises ValueError once it was read from more than `MAX_READS` times."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        self._count()
        return self._file.read(size)

    def readline(self, size: int = -1) -> bytes:
        self._count()
        return self._file.readline(size)

    def _count(self) -> None:
        self._reads += 1
        if self._reads > MAX_READS:
            raise ValueError(f"it is in more than {MAX_READS:,} pieces; save it anew")


@cache
def _formats(extension: str) -> tuple[str, ...]:
    """Formats that a file of that extension may have: all that Pillow tells by their first bytes, and the extension's."""
    Image.init()
    named = Image.EXTENSION.get(f".{extension}", "")
    marked = [format for format, (_, accept) in Image.OPEN.items() if accept or format == named]
    return tuple(sorted(set(marked) - set(_OTHER_PROGRAMS), key=lambda format: (format != named, format)))


def as_shown(image: Image.Image) -> Image.Image:
    """The image upright (EXIF), on white where it is transparent, as grey or RGB. More than 8 bits a channel are kept.

    White is what browsers and paper show behind a picture. Opaque pixels keep their values.
    """
    image = _upright(image)
    if image.mode.split(";")[0] in _TOO_DEEP:
        return image
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode in (*GREY_MODES, "RGB") else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    if image.info.keys().isdisjoint(_METADATA):
        return image
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata, which viewers ignore too
        return image
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode not in ("LA", "RGBA"):
        image = image.convert("LA" if grey else "RGBA")
    shown = Image.new("L" if grey else "RGB", image.size, "white")
    shown.paste(image, mask=image)
    return shown


def num_channels(image: Image.Image) -> int:
    """1 for grey images, 3 for all others."""
    return 1 if image.mode in GREY_MODES else 3


def fit(
    image: Image.Image,
    size: tuple[int, int],
    in_channels: int,
    filename: str,
    *,
    resized: tuple[int, int] | None = None,
) -> np.ndarray:
    """uint8 [C, H, W]: shorter side resized (bicubic, antialiased), then the centre cropped; untouched if equal.

    `size` and `resized` are (height, width): of the result, and what the image is resized to cover, `size` if None. Raises
    ValueError, naming the file, for what cannot be shown in 8 bits or would lose its colours.
    """
    try:
        return as_array(covering(with_mode(image, in_channels, filename), size, resized or size))
    except MemoryError as error:
        raise ValueError(
            f"image {filename!r} of {image.width} × {image.height} pixels needs more memory than there is; make it smaller"
        ) from error


def with_mode(image: Image.Image, in_channels: int, filename: str) -> Image.Image:
    """The image as grey (L) or RGB. Raises ValueError, naming the file, as `fit` does."""
    if image.mode.split(";")[0] in _TOO_DEEP:
        raise ValueError(f"image {filename!r} has mode {image.mode}, more than 8 bits a channel; convert it to 8 bits")
    if in_channels == 1 and num_channels(image) != 1:
        raise ValueError(
            f"image {filename!r} is coloured ({image.mode}), but those of its set that were looked at first are grey; "
            "make all of one kind"
        )
    mode = "L" if in_channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def as_array(image: Image.Image) -> np.ndarray:
    """uint8 [C, H, W] of a grey or RGB image."""
    pixels = np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def evaluation_size(size: tuple[int, int], eval_crop: float) -> tuple[int, int]:
    """(height, width) that an image is resized to cover, of which evaluation sees the middle `size` (timm's `crop_pct`)."""
    height, width = (math.floor(side / eval_crop) for side in size)
    return height, width


def covering(image: Image.Image, size: tuple[int, int], resized: tuple[int, int]) -> Image.Image:
    """The centre, of `size`, of the smallest resize that covers `resized`, (height, width) both; the longer side is cut to
    whole pixels as torchvision does.
    """
    if (image.height, image.width) == size == resized:
        return image
    height, width = resized
    if height * image.width >= width * image.height:
        new = (max(width, int(height * image.width / image.height)), height)
    else:
        new = (width, max(height, int(width * image.height / image.width)))
    height, width = size
    left, top = round((new[0] - width) / 2), round((new[1] - height) / 2)
    if new[0] * new[1] > MAX_PIXELS:  # of a long strip, the part that is kept is resized alone
        across, down = image.width / new[0], image.height / new[1]
        right, bottom = min((left + width) * across, image.width), min((top + height) * down, image.height)
        return image.resize((width, height), Image.Resampling.BICUBIC, (left * across, top * down, right, bottom))
    if new != image.size:
        image = image.resize(new, Image.Resampling.BICUBIC)
    return image.crop((left, top, left + width, top + height))


def fit_array(images: np.ndarray, size: tuple[int, int], resized: tuple[int, int]) -> np.ndarray:
    """`fit` for grey images that are already decoded: uint8 [N, 1, h, w] → uint8 [N, 1, H, W]."""
    if images.shape[2:] == size == resized:
        return images
    return np.stack(
        [fit(Image.fromarray(image[0]), size, 1, f"#{i}", resized=resized) for i, image in enumerate(images)]
    )
