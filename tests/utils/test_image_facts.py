"""What files say about their colours, positions and layout, beside their plain pixels."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from traiNNer.utils.errors import DataError
from traiNNer.utils.images import (
    Colors,
    read_colors,
    read_header,
    read_image,
    read_picture,
    write_image,
)
from traiNNer.utils.images.png import add_colors, make_chunk

HEIGHT = 30
WIDTH = 44


def texture(channels: int = 3, bits: int = 8) -> Any:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 9, channels), dtype=np.uint8)
    image = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image = image.reshape(HEIGHT, WIDTH, channels)
    return image if bits == 8 else image.astype(np.uint16) * 250 + 7


def encode(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def make_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2 called "wide"."""
    name = b"wide\0"
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(79), **tags}
    table = b""
    body = b""
    for tag, content in tags.items():
        place = 132 + 12 * len(tags) + len(body)
        table += tag + struct.pack(">II", place, len(content))
        body += content + bytes(-len(content) % 4)
    size = 132 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", space, b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


WHITE = xyz(0.9642, 1, 0.8249)
# The primaries of Adobe RGB (1998).
WIDE = make_profile(
    b"RGB ",
    {
        b"wtpt": WHITE,
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        **{tag: curve(2.2) for tag in (b"rTRC", b"gTRC", b"bTRC")},
    },
)
DARK_GREY = make_profile(b"GRAY", {b"wtpt": WHITE, b"kTRC": curve(1.0)})
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profile_of_every_format(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(encode(texture(), kind, icc_profile=WIDE))
    assert read_colors(path).icc == WIDE
    assert read_header(path).colors == "wide"
    path.write_bytes(encode(texture(), kind, icc_profile=SRGB_PROFILE))
    assert read_header(path).colors == ""
    path.write_bytes(encode(texture(), kind, icc_profile=b"x" * 500))
    assert read_header(path).colors == "a damaged profile"


@pytest.mark.parametrize(
    ("name", "content", "colors"),
    [
        (b"cICP", b"\x09\x10\x00\x01", "BT.2020 PQ"),
        (b"cICP", b"\x01\x0d\x00\x01", ""),
        (b"cICP", b"\x0b\x08\x00\x01", "cICP 11/8/0"),
        (b"gAMA", struct.pack(">I", 100_000), "gamma 1"),
        (b"gAMA", struct.pack(">I", 45_455), ""),
        (b"cHRM", struct.pack(">8I", *[30_000] * 8), "primaries of its own"),
        (b"sRGB", b"\0", ""),
    ],
)
def test_chunks_of_png(tmp_path: Path, name: bytes, content: bytes, colors: str) -> None:
    data = encode(texture(), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + make_chunk(name, content) + data[33:])
    read = read_colors(path)
    assert read.name == read_header(path).colors == colors
    write_image(tmp_path / "b.png", texture(), colors=read)
    assert read_colors(tmp_path / "b.png") == read
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), texture())


def test_adobe_rgb_by_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8769] = {0xA005: {1: "R03"}}
    (tmp_path / "a.jpg").write_bytes(encode(texture(), "JPEG", exif=exif))
    colors = read_colors(tmp_path / "a.jpg")
    assert colors.name == "Adobe RGB by EXIF"
    assert not colors.fits_png


def test_written_colors_are_what_viewers_read(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", texture(bits=16), colors=Colors(icc=WIDE))
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["icc_profile"] == WIDE
    grey = Colors(icc=DARK_GREY)
    assert not grey.fits_png
    assert add_colors(encode(texture(), "PNG"), grey) == encode(texture(), "PNG")


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_ink_is_converted_by_its_profile(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(encode(Image.fromarray(texture()).convert("CMYK"), kind, icc_profile=WIDE))
    # A profile of other numbers is none.
    assert read_header(path).converted == "CMYK without a profile"
    assert read_header(path).colors == ""


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_layouts_of_tiff(
    tmp_path: Path, bits: int, compression: str | None, tile: Any, planar: str
) -> None:
    stored = texture(4, bits)
    planes = np.moveaxis(stored, -1, 0) if planar == "separate" else stored
    options: dict[str, Any] = {
        "compression": compression, "tile": tile, "planarconfig": planar, "metadata": None,
        "extrasamples": ["unassalpha"], "photometric": "rgb", "byteorder": ">",
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.tif", planes, **options)
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.rgb, stored[..., :3])
    np.testing.assert_array_equal(picture.alpha, stored[..., 3])
    assert read_header(tmp_path / "a.tif").bits == bits


@pytest.mark.parametrize("bits", [8, 16])
def test_white_is_zero_and_grey_with_alpha(tmp_path: Path, bits: int) -> None:
    grey = texture(2, bits)
    options: dict[str, Any] = {"metadata": None, "photometric": "miniswhite"}
    tifffile.imwrite(tmp_path / "w.tif", np.iinfo(grey.dtype).max - grey[..., 0], **options)
    np.testing.assert_array_equal(read_image(tmp_path / "w.tif")[..., 1], grey[..., 0])
    options = {"metadata": None, "photometric": "minisblack", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", grey, planarconfig="contig", **options)
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.rgb[..., 2], grey[..., 0])
    np.testing.assert_array_equal(picture.alpha, grey[..., 1])


def test_premultiplied_alpha_is_divided_out(tmp_path: Path) -> None:
    opacity = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    dimmed = np.rint(texture() * (128 / 255)).astype(np.uint8)
    options: dict[str, Any] = {
        "metadata": None,
        "photometric": "rgb",
        "extrasamples": ["assocalpha"],
    }
    tifffile.imwrite(tmp_path / "a.tif", np.dstack((dimmed, opacity)), **options)
    off = np.abs(read_image(tmp_path / "a.tif").astype(int) - texture())
    assert off.max() <= 1


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (texture(4, 16), {"photometric": "separated"}, "TIFF, 16 bit, CMYK, 4 samples"),
        (texture(3, 16), {"photometric": "cielab"}, "16 bit, Lab"),
        (texture(), {"photometric": "cielab"}, "8 bit, Lab"),
        (texture().astype(np.float16), {"photometric": "rgb"}, "floating-point"),
        (texture(1)[..., 0].astype(np.int8), {"photometric": "minisblack"}, "signed"),
    ],
)
def test_kinds_of_tiff_that_are_refused(
    tmp_path: Path, samples: Any, options: dict[str, Any], words: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", samples, metadata=None, **options)
    for read in (read_header, read_image):
        with pytest.raises(DataError, match=rf"a\.tif: this kind of file .*{words}") as error:
            read(tmp_path / "a.tif")
        assert "damaged" not in str(error.value)


def damage(data: bytes, how: str) -> bytes:
    """A JPEG with restart markers or without, damaged behind its half; its end marker stays."""
    middle = len(data) // 2
    if how == "zeros":
        return data[:middle] + bytes(middle - 50) + data[-50:]
    if how == "cut":
        return data[:middle] + data[-2:]
    if how == "marker":
        return data[:middle] + b"\xff\xc7" + data[middle:]
    first, second = data.index(b"\xff\xd1"), data.index(b"\xff\xd2")
    swapped = bytearray(data)
    swapped[first + 1] = 0xD2
    swapped[second + 1] = 0xD1
    return bytes(swapped)


@pytest.mark.parametrize("how", ["zeros", "cut", "marker", "restarts"])
@pytest.mark.parametrize("progressive", [False, True])
def test_damage_inside_of_a_jpeg(
    tmp_path: Path, how: str, progressive: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(texture(), "JPEG", quality=95, progressive=progressive, restart_marker_blocks=1)
    path = tmp_path / "a.jpg"
    path.write_bytes(damage(data, how))
    with pytest.raises(DataError, match=r"a\.jpg: the JPEG (is damaged \(|file is cut short)"):
        read_image(path)
    assert capfd.readouterr().err == ""


def test_film_behind_a_photograph(tmp_path: Path) -> None:
    photograph = encode(texture(), "JPEG", quality=95)
    film = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
    for end in (b"", b"\xff\xda", b"\xff\xd9", b"\xff\xd9\xff\xda"):
        (tmp_path / "a.jpg").write_bytes(photograph + film + end)
        assert read_header(tmp_path / "a.jpg").width == WIDTH
        with Image.open(io.BytesIO(photograph)) as image:
            np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), np.asarray(image))


def test_header_of_a_jpeg_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode(texture(), "JPEG")[:30])
    with pytest.raises(DataError, match="cut short after 30 bytes; copy or download it again"):
        read_header(tmp_path / "a.jpg")


def test_jpeg_of_12_bit_is_no_damage(tmp_path: Path) -> None:
    data = bytearray(encode(texture(), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    (tmp_path / "a.jpg").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"\(a JPEG of 12 bit\) is not read; convert it to PNG"):
        read_header(tmp_path / "a.jpg")


def test_too_large_is_no_damage(tmp_path: Path) -> None:
    head = make_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    pixels = make_chunk(b"IDAT", b"\0")
    data = b"\x89PNG\r\n\x1a\n" + head + pixels + make_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"too large .*100000x100000.*cut it into pieces") as error:
        read_header(tmp_path / "a.png")
    assert "again" not in str(error.value)


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a pipe"), ("folder", "a folder"), ("device", "a device")):
        for read in (read_header, read_image):
            with pytest.raises(DataError, match=rf"{name}\.png: it is {kind} and no picture"):
                read(tmp_path / f"{name}.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha(tmp_path: Path, mode: str, kind: str) -> None:
    if (mode, kind) == ("LA", "WEBP"):
        pytest.skip("WebP has no grey")
    image = Image.fromarray(texture()).convert(mode)
    plane = texture(1)[..., 0]
    image.putalpha(Image.fromarray(plane))
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    (tmp_path / "a.bin").write_bytes(encode(image, kind, exif=exif, **options))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.bin").alpha, np.rot90(plane, -1))


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_transparent_level_of_a_png(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(texture())
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    level = image.getpixel((3, 3))
    data = encode(image, "PNG", transparency=level)
    (tmp_path / "a.png").write_bytes(data)
    with Image.open(io.BytesIO(data)) as read:
        expected = np.asarray(read.convert("RGBA"))[..., 3]
    assert 0 in expected
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").alpha, expected)
    assert read_header(tmp_path / "a.png").channels == (2 if mode == "L" else 4)


@pytest.mark.parametrize("bits", [8, 16])
def test_write_alpha(tmp_path: Path, bits: int) -> None:
    stored = texture(4, bits)
    write_image(tmp_path / "a.png", stored[..., :3], alpha=stored[..., 3])
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.rgb, stored[..., :3])
    np.testing.assert_array_equal(picture.alpha, stored[..., 3])
    with pytest.raises(ValueError, match="expected an alpha of"):
        write_image(tmp_path / "b.png", stored[..., :3], alpha=stored[1:, :, 3])
