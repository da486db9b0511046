"""train.py, with somebody who presses Ctrl-C at an iteration: stopping.py ITERATION ARGUMENTS."""

from __future__ import annotations

import sys

from tests.engine.test_recipes import Stop
from traiNNer import train
from traiNNer.engine import session
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import setup_logging
from traiNNer.engine.preparation import prepared
from traiNNer.utils.team import joined_team


def main() -> int:
    stop = Stop(int(sys.argv[1]))
    request = train.make_request(train.parse_arguments(sys.argv[2:]))
    with joined_team() as team, prepared(request, team) as job:
        return session.train(job, more_parts=[stop])


if __name__ == "__main__":
    setup_logging()
    sys.exit(run_plainly(main))
