"""traiNNer: super-resolution training that fits itself to the GPU."""

__version__ = "0.1.0"
