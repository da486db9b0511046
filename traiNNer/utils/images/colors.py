"""What a file says about its colours and its position: ICC profiles, PNG's chunks, EXIF."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

# Damaged EXIF says nothing; Pillow would also print a line without the file's name.
warnings.filterwarnings("ignore", "(?i)(corrupt|truncated).*", module="PIL.TiffImagePlugin")

# EXIF orientations that swap width and height.
SIDEWAYS = (5, 6, 7, 8)
ORIENTATION_TAG = 0x0112

_EXIF_IFD = 0x8769
_INTEROP_IFD = 0xA005
_INTEROP_INDEX = 1
# Of cameras that save Adobe RGB without a profile (Design rule for Camera File system).
_ADOBE_RGB_INDEX = "R03"
# The chunks of PNG beside iCCP that change what the numbers mean, by rank.
COLOR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI")
# Code points of ITU-T H.273, of primaries and transfer.
_CICP_NAMES = {
    (1, 13): "",
    (9, 16): "BT.2020 PQ",
    (9, 18): "BT.2020 HLG",
    (12, 13): "Display P3",
}
# 1 / 2.2, as nearly all files have it that mean sRGB, in PNG's units.
_SRGB_GAMMA = 45455
# sRGB's white and primaries in PNG's units.
_SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
# Two decimals of a chromaticity, which is how exactly some programs write it.
_CLOSE = 1000
# Bytes of an ICC profile's header and of its count of tags.
_SHORTEST_PROFILE = 132
# Profiles that differ from sRGB by no more levels of 255 than this show the same colours; versions
# of sRGB differ by up to 2.
_SAME_COLORS = 3


@dataclass(frozen=True, slots=True)
class Colors:
    """What the numbers of a picture mean; sRGB where nothing is said.

    Attributes:
        icc: the ICC profile.
        chunks: name and content of the chunks of a PNG that tell colours, but for the profile.
        adobe_rgb: EXIF says Adobe RGB.
    """

    icc: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    adobe_rgb: bool = False

    @property
    def name(self) -> str:
        """For people; empty for sRGB."""
        chunks = dict(self.chunks)
        # The order in which viewers have to ask (PNG, third edition).
        if len(chunks.get(b"cICP", b"")) == 4:
            return _cicp_name(chunks[b"cICP"])
        if self.icc:
            return profile_name(self.icc)
        if b"sRGB" in chunks:
            return ""
        if self.adobe_rgb:
            return "Adobe RGB by EXIF"
        return _gamma_name(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b""))

    @property
    def fits_png(self) -> bool:
        """Whether a colour PNG can say the same."""
        if self.icc:
            return profile_space(self.icc) == "RGB"
        return not self.adobe_rgb


def _cicp_name(content: bytes) -> str:
    primaries, transfer, matrix, _ = content
    named = _CICP_NAMES.get((primaries, transfer))
    return f"cICP {primaries}/{transfer}/{matrix}" if named is None else named


def _gamma_name(gamma: bytes, chromaticities: bytes) -> str:
    words: list[str] = []
    if len(gamma) == 4:
        (value,) = struct.unpack(">I", gamma)
        if value and abs(value - _SRGB_GAMMA) > _CLOSE:
            words.append(f"gamma {100_000 / value:.2g}")
    if len(chromaticities) == 32:
        values = struct.unpack(">8I", chromaticities)
        pairs = zip(values, _SRGB_CHROMATICITIES, strict=True)
        if any(abs(value - usual) > _CLOSE for value, usual in pairs):
            words.append("primaries of its own")
    return ", ".join(words)


def profile_space(icc: bytes) -> str:
    """The colour space of the numbers that a profile describes: "RGB", "GRAY", "CMYK", ...; empty
    if it is damaged.
    """
    if len(icc) < _SHORTEST_PROFILE or icc[36:40] != b"acsp":
        return ""
    return icc[16:20].decode("latin-1").strip()


# Few profiles are in use, each in many files.
@lru_cache(maxsize=64)
def profile_name(icc: bytes) -> str:
    """A profile's own description; empty if it shows the same colours as sRGB."""
    space = profile_space(icc)
    if not space:
        return "a damaged profile"
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = ImageCms.getProfileDescription(profile).strip()
        if space in ("RGB", "GRAY") and _shows_srgb(profile, "RGB" if space == "RGB" else "L"):
            return ""
    except (ImageCms.PyCMSError, OSError, ValueError):
        return "a damaged profile"
    return " ".join(name.split()) or "a profile without a name"


def _shows_srgb(profile: ImageCms.ImageCmsProfile, mode: str) -> bool:
    levels = np.linspace(0, 255, 6).astype(np.uint8)
    if mode == "L":
        probe = levels[:, None]
        plain = np.repeat(probe[..., None], 3, axis=2)
    else:
        probe = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 6, 3)
        plain = probe
    shown = ImageCms.profileToProfile(
        Image.fromarray(np.ascontiguousarray(probe)),
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert shown is not None, "not in place"
    return int(np.abs(np.asarray(shown).astype(int) - plain).max()) <= _SAME_COLORS


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """A CMYK picture of Pillow's in sRGB.

    Args:
        image: of mode "CMYK".
        icc: its profile; where it is missing or damaged, ink is taken for the
            complement of light, as most viewers do.
    """
    if has_ink_profile(icc):
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    else:
        converted = image.convert("RGB")
    assert converted is not None, "not in place"
    return converted


def has_ink_profile(icc: bytes) -> bool:
    """Whether a profile describes CMYK and can be used."""
    return profile_space(icc) == "CMYK" and profile_name(icc) != "a damaged profile"


def read_exif(block: bytes) -> tuple[int, bool]:
    """Orientation (1 to 8) and whether the numbers are Adobe RGB, of an EXIF block. Damaged ones
    say nothing.
    """
    exif = Image.Exif()
    try:
        exif.load(block)
        orientation = as_orientation(exif.get(ORIENTATION_TAG))
        interop: dict[int, Any] = exif.get_ifd(_EXIF_IFD).get(_INTEROP_IFD) or {}
        if not isinstance(interop, dict):
            interop = exif.get_ifd(_INTEROP_IFD)
        index = str(interop.get(_INTEROP_INDEX, "")).strip("\0 ")
        return orientation, index == _ADOBE_RGB_INDEX
    # Pillow's reader raises whatever its first wrong byte happens to trip over.
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error):
        return 1, False


def as_orientation(value: object) -> int:
    """A number of EXIF's, 1 if it is none of them."""
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def turn_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, ...) as it is to be looked at, contiguous; (W, H, ...) of a picture on its side."""
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    # Of the stored picture, the numbers say which edges are the visible top and left.
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
