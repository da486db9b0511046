"""A validation of several processes: each judges pictures of its own, and all know all scores."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from traiNNer.data.protocols import EvalSet
from traiNNer.utils.errors import StopRequested
from traiNNer.utils.team import Team

T = TypeVar("T")


def own_part(images: EvalSet, team: Team, shown: int = 0) -> range:
    """The pictures that this process judges. They follow each other, and no scene is cut, because
    some metrics compare a frame with the one before.

    Args:
        images: pictures, or clips around each frame of films.
        team: the processes; all have about as many.
        shown: the first so many are the first process's, which alone draws curves.
    """
    count = len(images)
    first = max(-(-count // team.size), min(shown, count))
    others = max(1, team.size - 1)
    ends = [first + (count - first) * number // others for number in range(team.size)]
    begin = 0 if team.is_first else _next_scene(images, ends[team.rank - 1])
    return range(begin, max(begin, _next_scene(images, ends[team.rank])))


def _next_scene(images: EvalSet, place: int) -> int:
    """The first place from this one on where a scene begins, or the end."""
    if images.target is None:
        return place
    paths = images.lq_paths
    while 0 < place < len(paths) and Path(paths[place]).parent == Path(paths[place - 1]).parent:
        place += 1
    return place


def parts_of_all(team: Team, own: T | None, *, wants_end: bool) -> list[T] | None:
    """What each process has judged, by rank.

    Args:
        team: the processes.
        own: of this one, plain values and tensors in main memory; None where it could not judge.
        wants_end: whether somebody has told this process to end.

    Returns:
        The same in all processes; None where one of them could not judge its own.

    Raises:
        StopRequested: if one of them wants the run to end.
    """
    votes = team.vote(float(own is None), wants_end=wants_end)
    if votes.wants_end:
        raise StopRequested(is_agreed=True)
    if any(said[0] for said in votes.values):
        return None
    return team.share(own)
