#!/usr/bin/env python3
"""Say whether this machine can train: the same as python -m traiNNer.validate."""

import sys

from traiNNer.validate import main

if __name__ == "__main__":
    sys.exit(main())
