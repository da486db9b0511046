"""The memory model: affine, curved, padded without saying so, drifting; and what it forgets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from traiNNer.automations import CardModel, MemoryModel, MemoryReading, Shape, SimulatedMemory
from traiNNer.automations.least_squares import weighted_least_squares

GIB = 2**30
KIB = 2**10
CARD = CardModel(total=24 * GIB, persistent=GIB, bytes_per_pixel=64 * KIB)
SHAPES = [Shape(32, 1), Shape(32, 4), Shape(64, 4), Shape(96, 4), Shape(128, 4)]


def taught(
    card: CardModel, shapes: list[Shape], **arguments: Any
) -> tuple[MemoryModel, SimulatedMemory]:
    model = MemoryModel(**arguments)
    memory = SimulatedMemory(card)
    for shape in shapes:
        observe(model, memory, shape)
    return model, memory


def observe(model: MemoryModel, memory: SimulatedMemory, shape: Shape) -> None:
    memory.start_window()
    memory.step(shape)
    model.observe(shape, memory.read())


def error(model: MemoryModel, memory: SimulatedMemory, shape: Shape) -> float:
    return abs(model.predict(shape).bytes / memory.needs(shape)[1] - 1)


def test_least_squares_finds_the_line() -> None:
    rows = [[1.0, float(x)] for x in (1, 2, 3, 10**9)]
    assert weighted_least_squares(rows, [3 + 2 * r[1] for r in rows], [1.0] * 4) == pytest.approx(
        [3, 2], rel=1e-3
    )


def test_two_shapes_predict_the_third() -> None:
    model, memory = taught(CARD, SHAPES[:2])
    assert error(model, memory, Shape(128, 8)) < 0.001
    assert error(model, memory, Shape(64, 16)) < 0.001


def test_one_shape_bounds_the_next_from_above() -> None:
    model, memory = taught(CARD, SHAPES[:1])
    for shape in SHAPES[1:]:
        assert model.predict(shape).bytes >= memory.needs(shape)[1]


def test_nothing_known() -> None:
    with pytest.raises(LookupError, match="nothing was observed"):
        MemoryModel().predict(Shape(64, 1))


def test_a_measured_shape_is_itself_with_a_small_margin() -> None:
    model, memory = taught(CARD, SHAPES)
    known = model.predict(SHAPES[-1])
    new = model.predict(Shape(128, 12))
    assert known.bytes == pytest.approx(memory.needs(SHAPES[-1])[1], rel=1e-6)
    assert known.margin < 0.01 * known.bytes < new.margin
    assert new.upper == new.bytes + new.margin


def test_the_margin_narrows_as_shapes_are_seen() -> None:
    shares = []
    for count in (2, 3, 5):
        model, _ = taught(CARD, SHAPES[:count])
        prediction = model.predict(Shape(160, 8))
        shares.append(prediction.margin / prediction.bytes)
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    "card",
    [
        CardModel(
            total=48 * GIB,
            persistent=GIB,
            bytes_per_pixel=64 * KIB,
            attention=64 * KIB * 0.4 / 128**2,
        ),
        CardModel(total=48 * GIB, persistent=GIB, bytes_per_pixel=64 * KIB, border=64 * KIB * 8),
    ],
)
def test_curvature_is_found_where_it_is(card: CardModel) -> None:
    model, memory = taught(card, [*SHAPES, Shape(64, 16), Shape(160, 4), Shape(192, 2)])
    assert error(model, memory, Shape(192, 5)) < 0.03
    assert error(model, memory, Shape(96, 20)) < 0.03


def test_a_padding_that_was_not_declared_is_found() -> None:
    card = CardModel(total=48 * GIB, persistent=GIB, bytes_per_pixel=64 * KIB, padding=32)
    model, memory = taught(
        card, [Shape(32, 1), Shape(32, 4), Shape(68, 4), Shape(100, 4), Shape(64, 12)]
    )
    assert model.padding == 32
    assert error(model, memory, Shape(72, 10)) < 0.02
    assert model.pixels(Shape(65, 1)) == 96**2


def test_a_failure_tells_of_padding_too() -> None:
    card = CardModel(total=6 * GIB, persistent=GIB, bytes_per_pixel=64 * KIB, padding=64)
    model, _ = taught(card, [Shape(64, 1), Shape(64, 4), Shape(64, 8)])
    model.observe_failure(Shape(68, 8), 6 * GIB)
    assert model.padding == 64


def test_the_size_multiple_and_frames_are_reckoned_with() -> None:
    card = CardModel(total=48 * GIB, persistent=GIB, bytes_per_pixel=8 * KIB, padding=16, frames=5)
    model, memory = taught(card, [Shape(32, 1), Shape(32, 4)], size_multiple=16, frames=5)
    assert error(model, memory, Shape(40, 8)) < 0.001


def test_reserved_follows_its_own_factor() -> None:
    card = CardModel(total=24 * GIB, persistent=GIB, bytes_per_pixel=64 * KIB, fragmentation=1.1)
    model, memory = taught(card, SHAPES)
    assert error(model, memory, Shape(160, 4)) < 0.005


def test_drift_is_followed() -> None:
    model, _ = taught(CARD, SHAPES)
    more = SimulatedMemory(CardModel(total=24 * GIB, persistent=2 * GIB, bytes_per_pixel=64 * KIB))
    for _ in range(12):
        observe(model, more, SHAPES[-1])
    assert error(model, more, SHAPES[-1]) < 0.01
    assert error(model, more, Shape(128, 5)) < 0.06


def test_the_oldest_shape_is_forgotten() -> None:
    model, _ = taught(CARD, SHAPES, history=4)
    assert model.count == 4
    assert not model.knows(SHAPES[0])
    assert model.knows(SHAPES[-1])


def test_state_goes_through_json() -> None:
    model, memory = taught(CARD, SHAPES)
    model.observe_failure(Shape(256, 8), 3 * GIB)
    other = MemoryModel()
    other.load_state_dict(json.loads(json.dumps(model.state_dict())))
    for shape in (*SHAPES, Shape(160, 3), Shape(72, 20)):
        assert other.predict(shape) == model.predict(shape)
    observe(model, memory, Shape(160, 3))
    observe(other, memory, Shape(160, 3))
    assert other.state_dict() == model.state_dict()


def test_a_reading_of_nothing_is_survived() -> None:
    model = MemoryModel()
    for shape in SHAPES:
        model.observe(shape, MemoryReading(1, 1, 0, GIB))
    assert model.predict(Shape(160, 2)).bytes > 0


def test_what_a_window_began_with_is_no_part_of_the_slope() -> None:
    """A process that holds 14 of 24 GiB before its first step is not told that twice the pixels
    take 28.
    """
    small = Shape(16, 1)
    large = Shape(16, 2)
    step = 64 * KIB * small.pixels()
    blind = MemoryModel()
    told = MemoryModel()
    blind.observe(small, MemoryReading(14 * GIB + step, 14 * GIB + step, 0, 24 * GIB))
    told.observe(
        small, MemoryReading(14 * GIB + step, 14 * GIB + step, 0, 24 * GIB, baseline=14 * GIB)
    )
    assert blind.predict(large).bytes > 27 * GIB
    assert told.predict(large).bytes == pytest.approx(14 * GIB + 2 * step)
