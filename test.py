#!/usr/bin/env python3
"""Upscale images and videos with a trained network, and measure it where there is GT."""

import sys

from traiNNer.test import command, main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(command())
