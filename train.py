#!/usr/bin/env python3
"""Train a network: python train.py -opt options/demo.yml"""

import sys

from traiNNer.train import command, main, make_request, parse_arguments

__all__ = ["main", "make_request", "parse_arguments"]

if __name__ == "__main__":
    sys.exit(command())
