"""How does a stored image become an array of the size, channels and depth that were asked for? It is what a viewer shows.

The decoded cache and the streamed images both come from this module, so their pixels are equal.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import IO, Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from vitbench.data.info import Dtype

StoredImage = Image.Image | np.ndarray
"""As a split gives it: a picture, or an array [C, H, W] of a user's own."""

GREY_MODES = ("1", "L")
MAX_PIXELS = 89_478_485
"""Pillow's limit, above which it warns of a decompression bomb: 0.36 GB as RGB."""
MAX_SIDE = 10_000_000
"""In pixels. Pillow keeps a pointer for every row: 2 GB for 80 million rows of one pixel each."""
MAX_BYTES = 2**29
"""Of one file. Pillow reads files of some formats into memory at once."""
MAX_READS = 500_000
"""Of one file. Pillow reads headers byte by byte, comments and padding too: 50 MB of these take many seconds."""
_DEEP: dict[str, Dtype] = {"I;16": "uint16", "I": "float32", "F": "float32"}
"""Pillow's modes of more than 8 bits, in whose place `convert` would put pixels clipped to 255, and what holds them."""
_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL = 258, 277
"""Tags of TIFF."""
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
            _check_whole(image)
            image.load()
            return as_shown(image)


def _check_whole(image: Image.Image) -> None:
    """Raises ValueError for bits and bands of the file that Pillow would leave out in silence."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    bands, samples = len(image.getbands()), tags.get(_SAMPLES_PER_PIXEL, 1)
    if samples > bands and image.mode != "P":
        raise ValueError(f"it has {samples} bands, of which Pillow reads {bands}; give such images as FILE.npz")
    bits = max(tags.get(_BITS_PER_SAMPLE) or (8,))
    if any(";16" in str(tile.args) for tile in getattr(image, "tile", ())):
        bits = 16
    if bits > 8 and image.mode.split(";")[0] not in ("I", "F"):
        raise ValueError(
            f"it has {bits} bits a channel, of which Pillow reads 8 where there are {bands}; give such images as FILE.npz, "
            "or convert them to 8 bits"
        )


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
    if stored_dtype(image) != "uint8":
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


def num_channels(image: StoredImage) -> int:
    """Of a picture 1 where it is grey, else 3."""
    if isinstance(image, np.ndarray):
        return len(image)
    return 1 if image.mode in GREY_MODES or stored_dtype(image) != "uint8" else 3


def stored_dtype(image: StoredImage) -> Dtype:
    """What holds the image's pixels without loss."""
    if isinstance(image, np.ndarray):
        return cast(Dtype, image.dtype.name)
    return _DEEP.get("I;16" if image.mode.startswith("I;16") else image.mode, "uint8")


def height_and_width(image: StoredImage) -> tuple[int, int]:
    """In pixels."""
    if isinstance(image, np.ndarray):
        height, width = image.shape[1:]
        return height, width
    return image.height, image.width


def fit(
    image: StoredImage,
    size: tuple[int, int],
    in_channels: int,
    name: str,
    *,
    resized: tuple[int, int] | None = None,
    dtype: Dtype = "uint8",
) -> np.ndarray:
    """`dtype` [C, H, W]: shorter side resized (bicubic, antialiased), then the centre cropped; untouched if equal.

    `size` and `resized` are (height, width): of the result, and what the image is resized to cover, `size` if None. `name`
    is what its split calls it (`FileSplit.image_name`). Raises ValueError, with that name, for pixels of another depth or
    number of channels, which would lose something, and for pixels that are not finite.
    """
    resized = resized or size
    try:
        checked = as_kind(image, in_channels, name, dtype)
        if isinstance(checked, Image.Image):
            return as_array(covering(checked, size, resized))
        if checked.shape[1:] == size == resized:
            return np.ascontiguousarray(checked)
        return by_channel(checked, lambda channel: covering(channel, size, resized))
    except MemoryError as error:
        height, width = height_and_width(image)
        raise ValueError(
            f"{name} has {width} × {height} pixels, which need more memory than there is; make it smaller"
        ) from error


def as_kind(image: StoredImage, in_channels: int, name: str, dtype: Dtype) -> StoredImage:
    """The image as those of its set are: a picture of 8 bits, grey or RGB, else `dtype` [C, h, w].

    Raises ValueError as `fit` does.
    """
    if isinstance(image, Image.Image) and stored_dtype(image) == dtype == "uint8":
        return with_mode(image, in_channels, name)
    pixels = image if isinstance(image, np.ndarray) else _deep_pixels(image, name, dtype)
    _check_pixels(pixels, in_channels, name, dtype)
    return pixels


def _deep_pixels(image: Image.Image, name: str, dtype: Dtype) -> np.ndarray:
    """[1, H, W] of a grey picture with more than 8 bits."""
    stored = stored_dtype(image)
    if dtype == "uint8":
        raise ValueError(
            f"{name} has mode {image.mode}, more than 8 bits a channel, and those of its set that were looked at "
            "first have 8; convert it to 8 bits"
        )
    if stored == "uint8" or (stored, dtype) == ("float32", "uint16"):
        raise ValueError(
            f"{name} has mode {image.mode}, but those of its set that were looked at first are {dtype}; "
            "make all of one kind"
        )
    pixels = np.asarray(image)
    as_asked = pixels.astype(dtype)
    if pixels.dtype.kind == "i" and not np.array_equal(as_asked.astype(np.int64), pixels):
        raise ValueError(f"{name} has values above 2²⁴, which float32 would round; scale them down")
    return as_asked[None]


def _check_pixels(image: np.ndarray, in_channels: int, name: str, dtype: Dtype) -> None:
    if len(image) != in_channels or image.dtype != dtype:
        raise ValueError(
            f"{name} has {len(image)} channels of {image.dtype}, but those of its set that were looked at first "
            f"have {in_channels} of {dtype}; make all of one kind"
        )
    if dtype == "float32" and not np.isfinite(image).all():
        raise ValueError(f"{name} has pixels that are NaN or infinite; replace them")


def by_channel(image: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """`change` of each channel of [C, h, w] by itself, which Pillow holds in 8 bits or in float32; the same type as before."""
    held = image.astype(np.float32) if image.dtype == np.uint16 else np.ascontiguousarray(image)
    pixels = np.stack([np.asarray(change(Image.fromarray(channel))) for channel in held])
    return pixels if image.dtype != np.uint16 else np.clip(np.rint(pixels), 0, 65535).astype(np.uint16)


def with_mode(image: Image.Image, in_channels: int, name: str) -> Image.Image:
    """A picture of 8 bits as grey (L) or RGB. Raises ValueError, naming the file, where colours would be lost."""
    if in_channels != 3 and num_channels(image) != 1:
        raise ValueError(
            f"{name} is coloured ({image.mode}), but those of its set that were looked at first are grey; "
            "make all of one kind"
        )
    mode = "L" if in_channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def as_picture(image: StoredImage) -> StoredImage:
    """Grey and RGB of 8 bits as a picture, all else as it is."""
    if isinstance(image, Image.Image) or image.dtype != np.uint8 or len(image) not in (1, 3):
        return image
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, -1)))


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
        [fit(Image.fromarray(image[0]), size, 1, f"image #{i}", resized=resized) for i, image in enumerate(images)]
    )
