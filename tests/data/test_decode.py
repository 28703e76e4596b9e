"""Does a stored image become the array that PIL and torchvision would make of it?"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data.transforms_factory import transforms_imagenet_eval
from torchvision.transforms.v2 import functional as reference

from vitbench.data import decode
from vitbench.data.decode import evaluation_size, fit, read_image


def picture(height: int, width: int, channels: int = 3) -> Image.Image:
    shape = (height, width, 3) if channels == 3 else (height, width)
    return Image.fromarray(np.random.default_rng(1).integers(256, size=shape, dtype=np.uint8))


def test_an_image_of_the_right_size_is_untouched():
    image = picture(6, 9)
    assert np.array_equal(fit(image, (6, 9), 3, "x"), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("stored", [(40, 61), (61, 40), (33, 33), (20, 27), (17, 300), (32, 45)])
def test_resize_and_crop_agree_with_torchvision(stored):
    image = picture(*stored)
    resized = reference.resize(image, 32, interpolation=reference.InterpolationMode.BICUBIC)
    expected = reference.pil_to_tensor(reference.center_crop(resized, [32, 32]))
    assert torch.equal(torch.from_numpy(fit(image, (32, 32), 3, "x")), expected)


@pytest.mark.parametrize("stored", [(40, 61), (61, 40), (10, 100), (20, 9), (100, 100)])
def test_a_size_that_is_not_square_is_covered_and_cropped(stored):
    image = Image.new("L", stored[::-1], 200)
    result = fit(image, (24, 10), 1, "x")
    assert result.shape == (1, 24, 10) and (result == 200).all()


def test_grey_becomes_three_equal_channels_in_a_coloured_set():
    result = fit(picture(5, 5, channels=1), (5, 5), 3, "x")
    assert np.array_equal(result[0], result[1]) and np.array_equal(result[0], result[2])


def test_black_and_white_becomes_0_and_255():
    image = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    assert fit(image, (2, 2), 1, "x").tolist() == [[[0, 255], [255, 0]]]


def test_a_coloured_image_in_a_grey_set_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^image 'cat/1.png' is coloured \(RGB\)"):
        fit(picture(5, 5), (5, 5), 1, "image 'cat/1.png'")


def test_sixteen_bits_are_refused_by_name():
    deep = Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16))
    with pytest.raises(ValueError, match=r"^image 'deep.png' has mode I;16.* convert it to 8 bits$"):
        fit(deep, (4, 4), 1, "image 'deep.png'")


def read(image: Image.Image, format: str = "PNG", **options) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format, **options)
    return read_image(file)


@pytest.mark.against("Pillow", "EXIF orientation undone, with ImageOps.exif_transpose", "exact")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_picture_is_turned_as_its_exif_says(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture(5, 9).save(file, format, exif=exif)
    with Image.open(file) as stored:
        expected = ImageOps.exif_transpose(stored)
    shown = read_image(file)
    assert shown.size == ((9, 5) if orientation < 5 else (5, 9))
    assert np.array_equal(np.asarray(shown), np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("damage", [b"Exif\0\0" + b"\xff" * 40, b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0"])
def test_damaged_metadata_change_no_pixel(damage):
    file, plain = io.BytesIO(), io.BytesIO()
    picture(5, 9).save(file, "JPEG", exif=damage)
    picture(5, 9).save(plain, "JPEG")
    assert np.array_equal(np.asarray(read_image(file)), np.asarray(read_image(plain)))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_on_white(mode):
    bands = np.random.default_rng(0).integers(256, size=(40, 50, len(mode)), dtype=np.uint8)
    bands[:10, :, -1], bands[10:20, :, -1] = 255, 0
    shown = np.asarray(read(Image.fromarray(bands, mode))).astype(float)
    alpha = bands[..., -1:] / 255
    expected = (bands[..., :-1] * alpha + 255 * (1 - alpha)).reshape(shown.shape)
    assert np.abs(shown - expected).max() <= 0.51  # rounded once
    assert np.array_equal(shown[:10], bands[:10, :, :-1].reshape(shown[:10].shape)) and (shown[10:20] == 255).all()


def test_a_picture_drawn_in_alpha_alone_is_seen():
    alpha = Image.fromarray(np.random.default_rng(0).integers(256, size=(8, 8), dtype=np.uint8))
    black = Image.new("RGB", (8, 8))
    black.putalpha(alpha)
    assert np.array_equal(np.asarray(read(black))[..., 0], 255 - np.asarray(alpha))


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_entry_of_a_palette_or_colour_key_is_white(format):
    levels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    palette = Image.frombytes("P", (4, 4), levels.tobytes())
    palette.putpalette([channel for level in range(16) for channel in (level, 2 * level, 3 * level)])
    shown = np.asarray(read(palette, format, transparency=5)).reshape(16, 3).tolist()
    assert shown == [[255] * 3 if level == 5 else [level, 2 * level, 3 * level] for level in range(16)]
    opaque = np.asarray(read(palette, format)).reshape(16, 3).tolist()
    assert opaque == [[level, 2 * level, 3 * level] for level in range(16)]
    grey = read(Image.fromarray(levels), "PNG", transparency=5)
    assert grey.mode == "L" and np.asarray(grey).ravel().tolist() == [
        255 if level == 5 else level for level in range(16)
    ]


def test_cmyk_is_the_colour_that_its_inks_leave():
    inks = np.random.default_rng(0).integers(256, size=(6, 7, 4), dtype=np.uint8)
    shown = np.asarray(read(Image.fromarray(inks, "CMYK"), "TIFF")).astype(float)
    expected = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    assert np.abs(shown - expected).max() <= 1


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_eight_bits_are_refused_and_not_clipped(mode):
    deep = read(Image.fromarray(np.full((4, 4), 40000, np.int32)).convert(mode), "TIFF")
    with pytest.raises(ValueError, match=r"^image 'deep.tif' has mode [IF].* convert it to 8 bits$"):
        fit(deep, (4, 4), 1, "image 'deep.tif'")


@pytest.mark.parametrize("stored", [(3, 999), (999, 3), (7, 400)])
def test_the_part_of_a_strip_that_is_kept_is_resized_alone_to_the_same_pixels(stored, monkeypatch):
    # Of little contrast: bicubic overshoots are then not clipped, in whichever order Pillow takes the two directions.
    image = picture(*stored).point(lambda level: 100 + level // 5)
    whole = fit(image, (32, 32), 3, "x").astype(int)
    monkeypatch.setattr(decode, "MAX_PIXELS", 1)
    assert np.abs(fit(image, (32, 32), 3, "x").astype(int) - whole).max() <= 2  # rounded in between


def test_the_first_frame_of_several_is_the_picture():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert np.asarray(read(frames[0], "GIF", save_all=True, append_images=frames[1:]))[0, 0].tolist() == [255, 0, 0]


def test_a_picture_that_another_program_would_draw_is_refused():
    with pytest.raises(ValueError, match="no image format that Pillow knows"):
        read_image(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"), "a.jpg")


@pytest.mark.parametrize("eval_crop", [0.875, 0.9, 0.95, 0.5])
@pytest.mark.parametrize(("height", "width"), [(50, 70), (71, 50), (300, 301), (32, 32), (9, 200)])
def test_evaluation_sees_what_timms_evaluation_transform_shows(eval_crop, height, width):
    image = picture(height, width)
    expected = transforms_imagenet_eval(32, crop_pct=eval_crop, interpolation="bicubic", normalize=False)(image)
    pixels = fit(image, (32, 32), 3, "x", resized=evaluation_size((32, 32), eval_crop))
    assert torch.equal(torch.from_numpy(pixels), expected)


def test_a_share_of_evaluation_that_is_tiny_needs_no_huge_image():
    pixels = fit(picture(40, 60), (8, 8), 3, "x", resized=evaluation_size((8, 8), 1e-6))
    assert pixels.shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("mode", "format", "dtype"),
    [("I;16", "PNG", "uint16"), ("I;16", "TIFF", "uint16"), ("I", "TIFF", "float32"), ("F", "TIFF", "float32")],
)
def test_grey_levels_of_more_than_eight_bits_are_kept_in_a_set_of_them(mode, format, dtype):
    levels = np.random.default_rng(0).integers(65536, size=(5, 7))
    deep = read(Image.fromarray(levels.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])), format)
    assert decode.stored_dtype(deep) == dtype
    kept = fit(deep, (5, 7), 1, "deep", dtype=dtype)
    assert kept.dtype == dtype and np.array_equal(kept[0], levels)


def test_a_level_that_float32_would_round_is_refused():
    deep = read(Image.fromarray(np.full((4, 4), 2**24 + 1, np.int32)), "TIFF")
    with pytest.raises(ValueError, match="has values above 2²⁴, which float32 would round; scale them down"):
        fit(deep, (4, 4), 1, "image 'deep.tif'", dtype="float32")


def test_an_image_of_eight_bits_in_a_set_of_sixteen_is_refused_by_name():
    with pytest.raises(
        ValueError, match=r"image 'shallow.png' has mode L, but .* first are uint16; make all of one kind"
    ):
        fit(picture(4, 4, 1), (4, 4), 1, "image 'shallow.png'", dtype="uint16")


def png_of_sixteen_bits(channels: int) -> bytes:
    """Pillow writes none of several channels; the chunks are by the PNG specification, 5.3 and 11.2."""
    colour = {1: 0, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + bytes(2 * channels * 4) for _ in range(4))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    written = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_sixteen_bits_are_not_cut_to_eight_in_silence(channels):
    with pytest.raises(
        ValueError, match=r"it has 16 bits a channel, of which Pillow reads 8 .* as FILE.npz, or convert"
    ):
        read_image(io.BytesIO(png_of_sixteen_bits(channels)), "deep.png")
    assert decode.stored_dtype(read_image(io.BytesIO(png_of_sixteen_bits(1)))) == "uint16"


def test_a_band_that_pillow_would_leave_out_is_refused():
    file = io.BytesIO()
    Image.new("RGBX", (4, 4)).save(file, "TIFF")  # the fourth band is not transparency
    with pytest.raises(ValueError, match=r"it has 4 bands, of which Pillow reads 3; give such images as FILE.npz"):
        read_image(file, "bands.tif")


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("stored", [(40, 61), (20, 9)])
def test_arrays_are_resized_channel_by_channel_as_grey_pictures_are(channels, stored):
    array = np.random.default_rng(0).integers(256, size=(channels, *stored), dtype=np.uint8)
    fitted = fit(array, (16, 12), channels, "#0")
    for channel, expected in zip(fitted, array, strict=True):
        assert np.array_equal(channel, fit(Image.fromarray(expected), (16, 12), 1, "#0")[0])
