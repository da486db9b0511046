"""What reaches a terminal and files: text as it is, whatever names are made of."""

from __future__ import annotations

import io
import logging
import math
import re
import sys
from pathlib import Path

import pytest
import torch
from rich.progress import Progress
from rich.table import Table

from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import log_to_file, plain_console, setup_logging
from traiNNer.engine.reporter import LossMeans
from traiNNer.engine.tracker import Tracker
from traiNNer.utils.errors import DataError

# Markup, an emoji by name, a command to a terminal, and a byte that is no text.
ODD = "[red]a[/red] [/b] :fire: \x1b[31m caf\udce9\nb"
SHOWN = "[red]a[/red] [/b] :fire: \\x1b[31m caf\\xe9\\nb"


def test_rich_interprets_nothing() -> None:
    output = io.StringIO()
    console = plain_console(file=output, width=200)
    table = Table("[red]a[/red] [/b] :fire:", title="[b]title[/b]")
    table.add_row("[/] :smile:")
    console.print(table)
    for text in ("[red]a[/red] [/b] :fire:", "[b]title[/b]", "[/] :smile:"):
        assert text in output.getvalue()


def test_the_bar_shows_words_as_they_are() -> None:
    from traiNNer.engine.progress import bar_columns

    output = io.StringIO()
    console = plain_console(file=output, width=200, force_terminal=True)
    with Progress(*bar_columns(), console=console) as progress:
        progress.add_task("[/] [red]x[/red]", total=2, count="[b]1[/b]")
    assert "[/] [red]x[/red]" in output.getvalue()
    assert "[b]1[/b]" in output.getvalue()


def test_paths_in_messages_are_on_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    setup_logging()
    log_to_file(Path("run.log"))
    logging.getLogger("traiNNer.x").warning("%s: two\nlines", Path(ODD))
    said = capfd.readouterr().err
    assert f"{SHOWN}: two\nlines" in said
    assert "caf" in Path("run.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_stream_is_too_narrow(encoding: str) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in range(2)]
    former = sys.stdout, sys.stderr

    def action() -> int:
        sys.stdout.write(f"я {ODD}")
        raise DataError(f"я {ODD}")

    sys.stdout = streams[0]
    sys.stderr = streams[1]
    try:
        assert run_plainly(action) == 2
    finally:
        sys.stdout = former[0]
        sys.stderr = former[1]
    for stream in streams:
        stream.flush()
        content = stream.buffer
        assert isinstance(content, io.BytesIO)
        text = content.getvalue().decode(encoding)
        assert "Traceback" not in text
        assert "fire" in text


def test_curves_and_texts_may_be_called_anything(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "tb")
    tracker.open()
    tracker.scalars({ODD: 1.0}, 1)
    tracker.image(ODD, torch.zeros(3, 4, 4), 1)
    tracker.text(ODD, f"{ODD}\n", 1)
    tracker.close()
    content = next((tmp_path / "tb").iterdir()).read_bytes()
    assert content.count(SHOWN.encode()) >= 3


def test_a_line_begins_with_its_time_and_a_level_that_matters(
    capfd: pytest.CaptureFixture[str],
) -> None:
    setup_logging()
    log = logging.getLogger("traiNNer.test")
    log.info("a %s", "message")
    log.warning("beware")
    lines = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d a message", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING: beware", lines[1])


def test_a_step_that_is_not_finite_does_not_hide_the_others() -> None:
    means = LossMeans()
    for value in (1.0, float("nan"), 3.0, float("inf")):
        means.add({"l1": torch.tensor(value)})
    assert means.look() == {"l1": 2.0}
    assert means.read() == {"l1": 2.0}
    means.add({"l1": torch.tensor(float("nan"))})
    assert math.isnan(means.read()["l1"])
    assert means.read() == {}
