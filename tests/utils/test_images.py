"""Every kind of image file that users have, and every way in which one is broken."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from traiNNer.utils.errors import DataError
from traiNNer.utils.images import (
    ImageHeader,
    image_to_tensor,
    read_header,
    read_image,
    read_top,
    write_image,
)
from traiNNer.utils.images.png import make_chunk


def _texture(height: int = 30, width: int = 44, channels: int = 3, bits: int = 8) -> Any:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 9, channels), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(
        height, width, channels
    )
    return (
        image
        if bits == 8
        else (image.astype(np.uint16) * 257 + rng.integers(0, 99, image.shape)).astype(np.uint16)
    )


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _pillow(mode: str) -> Image.Image:
    image = Image.fromarray(_texture())
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(_texture()[..., 0]))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind", "channels", "bits"),
    [
        ("RGB", "PNG", 3, 8), ("RGBA", "PNG", 4, 8), ("L", "PNG", 1, 8), ("LA", "PNG", 2, 8),
        ("P", "PNG", 3, 8),
        ("1", "PNG", 1, 1), ("RGB", "BMP", 3, 8), ("L", "BMP", 1, 8), ("RGB", "TIFF", 3, 8),
        ("RGBA", "TIFF", 4, 8),
        ("LA", "TIFF", 2, 8), ("L", "TIFF", 1, 8), ("P", "TIFF", 3, 8), ("CMYK", "TIFF", 3, 8),
        ("1", "TIFF", 1, 1),
    ],
)  # fmt: skip
def test_lossless_kinds(tmp_path: Path, mode: str, kind: str, channels: int, bits: int) -> None:
    image = _pillow(mode)
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(_encode(image, kind))
    read = read_image(path)
    flat = image.convert("LA").getchannel(0) if mode == "LA" else image
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, np.asarray(flat.convert("RGB")))
    converted = "CMYK without a profile" if mode == "CMYK" else ""
    assert read_header(path) == ImageHeader(44, 30, channels, bits, converted=converted)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(_encode(_pillow(mode), "WEBP", lossless=True, exact=True))
    np.testing.assert_array_equal(read_image(path), _texture())
    assert read_header(path) == ImageHeader(44, 30, len(mode), 8)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.JPG"
    data = _encode(_pillow(mode), "JPEG", quality=95)
    path.write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(read_image(path).astype(int) - expected).max() <= 2
    converted = "CMYK without a profile" if mode == "CMYK" else ""
    channels = 1 if mode == "L" else 3
    assert read_header(path) == ImageHeader(44, 30, channels, 8, converted=converted)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = _encode(_pillow("RGB"), kind, exif=exif, **lossless)
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    read = read_image(path)
    header = read_header(path)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    assert (header.height, header.width) == read.shape[:2] == expected.shape[:2]
    assert np.abs(read.astype(int) - expected).max() <= 2


def test_exif_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _encode(_pillow("RGB"), "PNG")
    chunk = make_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk + data[-12:])
    assert read_header(tmp_path / "a.png") == ImageHeader(30, 44, 3, 8, orientation=6)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(_texture(), -1))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit(tmp_path: Path, suffix: str, channels: int) -> None:
    image = _texture(channels=channels, bits=16)
    stored = image[..., [2, 1, 0, 3][:channels]] if channels > 1 else image
    path = tmp_path / f"a{suffix}"
    path.write_bytes(cv2.imencode(suffix, stored)[1].tobytes())
    read = read_image(path)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, image.repeat(3, 2) if channels == 1 else image[..., :3])
    assert read_header(path) == ImageHeader(44, 30, channels, 16)


def test_float_tiff_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(_encode(Image.fromarray(_texture()[..., 0].astype(np.float32)), "TIFF"))
    with pytest.raises(DataError, match=r"a\.tif: 32 bit per channel; only 8 and 16"):
        read_header(path)
    with pytest.raises(DataError, match=r"a\.tif"):
        read_image(path)


def test_unicode_name_and_wrong_suffix(tmp_path: Path) -> None:
    path = tmp_path / "Überraschung 猫.jpg"
    path.write_bytes(_encode(_pillow("RGB"), "PNG"))
    np.testing.assert_array_equal(read_image(path), _texture())
    assert read_header(path).width == 44


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (
            b"this is a text file",
            r"not a PNG, JPEG, WebP, TIFF or BMP image \(it begins with b'this is ",
        ),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x89PNG\r\n\x1a\n", "header is damaged|cut short"),
    ],
)
def test_not_an_image(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for read in (read_header, read_image):
        with pytest.raises(DataError, match=message) as error:
            read(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.98, 0.5, 0.1])
def test_cut_short(
    tmp_path: Path, kind: str, part: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.png"
    data = _encode(Image.fromarray(_texture(200, 300)), kind)
    path.write_bytes(data[: int(len(data) * part)])
    for read in (read_header, read_image):
        with pytest.raises(
            DataError,
            match=r"(?i)a\.png: the .* file is cut short after \d+ bytes; copy or download",
        ):
            read(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.9, 0.5])
def test_cut_short_with_the_header_at_the_start(
    tmp_path: Path, kind: str, part: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.bin"
    data = _encode(Image.fromarray(_texture(200, 300)), kind)
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(DataError, match=r"a\.bin: .*(damaged|cut short)"):
        read_image(path)
    assert capfd.readouterr().err == ""


def test_thumbnail_does_not_hide_the_missing_end(tmp_path: Path) -> None:
    data = _encode(Image.fromarray(_texture(200, 300)), "JPEG")
    thumbnail = _encode(Image.fromarray(_texture()), "JPEG")
    comment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    path = tmp_path / "a.jpg"
    whole = data[:2] + comment + data[2:]
    path.write_bytes(whole)
    assert read_header(path).width == 300
    path.write_bytes(whole[:-200])
    with pytest.raises(DataError, match="cut short"):
        read_header(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_bytes_behind_the_end_are_harmless(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(_encode(_pillow("RGB"), kind) + b"camera data")
    assert read_header(path).width == 44
    assert read_image(path).shape == (30, 44, 3)


def test_damaged_png(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(_encode(_pillow("RGB"), "PNG"))
    data[len(data) // 2] ^= 0x55
    path = tmp_path / "a.png"
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"damaged at byte \d+ \(wrong checksum\)"):
        read_image(path)
    assert capfd.readouterr().err == ""


def test_odd_colour_profile_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = _encode(_pillow("RGB"), "PNG")
    body = b"iCCP" + b"odd\0\0" + zlib.compress(b"\xff" * 140)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), _texture())
    assert capfd.readouterr().err == ""


def _interlaced(image: Any) -> bytes:
    """A PNG in the seven passes of Adam7, unfiltered."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]
    passes += [(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [
        b"\0" + row.tobytes()
        for top, left, down, right in passes
        for row in image[top::down, left::right]
        if row.size
    ]
    height, width = image.shape[:2]
    chunks = [
        make_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)),
        make_chunk(b"IDAT", zlib.compress(b"".join(rows))),
        make_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_the_first_rows_of_any_kind(tmp_path: Path) -> None:
    """What a crop needs is decoded, whatever the rest of the file is like."""
    large = _texture(300, 260)
    noisy = large ^ np.random.default_rng(1).integers(0, 8, large.shape, dtype=np.uint8)
    picture = Image.fromarray(noisy)
    turned = Image.Exif()
    turned[0x0112] = 3
    alpha = picture.copy()
    alpha.putalpha(Image.fromarray(large[..., 0]))
    files = {
        "adaptive.png": _encode(picture, "PNG"),
        "turned.png": _encode(picture, "PNG", exif=turned),
        "alpha.png": _encode(alpha, "PNG"),
        "grey.png": _encode(picture.convert("L"), "PNG"),
        "palette.png": _encode(picture.convert("P"), "PNG"),
        "transparent.png": _encode(picture, "PNG", transparency=(1, 2, 3)),
        "interlaced.png": _interlaced(noisy),
        "deep.png": cv2.imencode(".png", _texture(300, 260, bits=16))[1].tobytes(),
        "sub.png": cv2.imencode(".png", noisy)[1].tobytes(),
        "photo.jpg": _encode(picture, "JPEG"),
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        whole = read_image(path)
        for rows in (1, 150, 299, 300, 1000):
            top = read_top(path, rows)
            assert top.shape[0] in (min(rows, 300), 300)
            assert (top == whole[: len(top)]).all()
    assert read_top(tmp_path / "adaptive.png", 150).shape == (150, 260, 3)
    assert (read_image(tmp_path / "interlaced.png") == noisy).all()
    for name in ("adaptive.png", "sub.png"):
        data = files[name]
        damaged = bytearray(data)
        damaged[len(data) // 3] ^= 1
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DataError, match="wrong checksum"):
            read_top(tmp_path / name, 10)


def test_missing_file(tmp_path: Path) -> None:
    for read in (read_header, read_image):
        with pytest.raises(DataError, match="cannot be read: No such file"):
            read(tmp_path / "none.png")


@pytest.mark.parametrize("bits", [8, 16])
def test_write_and_read_back(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "new" / "ü.png"
    write_image(path, _texture(bits=bits)[::-1])
    np.testing.assert_array_equal(read_image(path), _texture(bits=bits)[::-1])
    assert [file.name for file in path.parent.iterdir()] == ["ü.png"]


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_write_refuses_other_arrays(tmp_path: Path, image: Any) -> None:
    with pytest.raises(ValueError, match=r"expected an \(H, W, 3\) array of uint8 or uint16, got"):
        write_image(tmp_path / "a.png", image)


def test_image_to_tensor() -> None:
    eight = _texture()
    sixteen = _texture(bits=16)
    tensor = image_to_tensor(eight[2:9, 3:8])
    assert (tensor.shape, tensor.dtype) == ((3, 7, 5), torch.uint8)
    assert tensor.is_contiguous()
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), eight[2:9, 3:8])
    eight[2, 3] += 1
    assert tensor[0, 0, 0] != eight[2, 3, 0], "the tensor is a copy"
    deep = image_to_tensor(sixteen[::-1].swapaxes(0, 1))
    assert (deep.shape, deep.dtype, deep.is_contiguous()) == ((3, 44, 30), torch.float32, True)
    np.testing.assert_allclose(deep.numpy(), sixteen[::-1].transpose(2, 1, 0) / 65535, atol=1e-7)
    with pytest.raises(ValueError, match="expected uint8 or uint16"):
        image_to_tensor(np.zeros((2, 2, 3), np.float32))  # pyright: ignore[reportArgumentType]
