"""Image files: the header alone, the pixels, and writing. An unusable file is a `DataError` that
says what to do.
"""

from traiNNer.utils.images.basics import ImageHeader, Picture, Pixels
from traiNNer.utils.images.colors import Colors
from traiNNer.utils.images.png import add_colors
from traiNNer.utils.images.reading import (
    read_colors,
    read_header,
    read_image,
    read_picture,
    read_top,
)
from traiNNer.utils.images.writing import SRGB, image_to_tensor, write_image

# The format is told by the content; these are the names that files of these formats go by.
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".apng", ".jpe", ".jfif", ".jif",
    ".jfi", ".mpo", ".dib",
)  # fmt: skip

__all__ = [
    "IMAGE_SUFFIXES",
    "SRGB",
    "Colors",
    "ImageHeader",
    "Picture",
    "Pixels",
    "add_colors",
    "image_to_tensor",
    "read_colors",
    "read_header",
    "read_image",
    "read_picture",
    "read_top",
    "write_image",
]
