"""train.py on a simulated card, the second process's smaller than the first's: what entered the
network is printed at the end.
"""

from __future__ import annotations

import json
import sys

from tests.engine.witness import Witness, card
from traiNNer import train
from traiNNer.engine import session
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import setup_logging
from traiNNer.engine.part import Part
from traiNNer.engine.preparation import prepared
from traiNNer.engine.run import Run
from traiNNer.models import StepResult
from traiNNer.utils.shape import Shape
from traiNNer.utils.team import joined_team


class Last(Part):
    """Remembers the run, and the samples of each step."""

    name = "last"
    run: Run

    def __init__(self) -> None:
        self.used: list[tuple[int, ...]] = []

    def start(self, run: Run) -> None:
        self.run = run

    def after_step(self, run: Run, result: StepResult) -> None:
        self.used.append(result.indices)


def main() -> int:
    request = train.make_request(train.parse_arguments(sys.argv[1:]))
    last = Last()
    with joined_team() as team, prepared(request, team) as job:
        witness = Witness(card(Shape(48, 24 if team.is_first else 12)))
        code = session.train(job, memory=witness.memory, more_parts=[witness, last])
    shape = witness.entered[-1]
    report = {
        "entered": [(entered.lq_size, entered.batch_size) for entered, _ in witness.reported],
        "is_honest": all(entered == reported for entered, reported in witness.reported),
        "share": witness.memory.share(shape),
        "failures": len(witness.entered) - len(witness.reported),
        "used": last.used,
        "samples": last.run.stream.loader.samples_consumed,
    }
    print(json.dumps(report))  # noqa: T201 (for the test)
    return code


if __name__ == "__main__":
    setup_logging()
    sys.exit(run_plainly(main))
