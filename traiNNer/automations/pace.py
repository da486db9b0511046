"""When to move, and when to wait. Time is counted in windows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

# Windows in a row that must be outside the band before a run that has arrived moves again.
PATIENCE = 2
# Windows without growth after moves went up and down; twice as many at each further time, at most
# so many times, which is longer than any run.
HOLD_WINDOWS = 25
HOLD_DOUBLINGS = 10
# Changes of direction within the last moves that count as going up and down: one is a landing,
# two a disturbance that came and went.
REVERSALS = 3
# Windows after which a move no longer counts for that, and moves that are remembered for it.
REVERSAL_MEMORY = 60
MOVES_KEPT = 8
# A search that found nothing is repeated after 2, 4, 8, ... windows, doubled at most so many times:
# what could make it find something is drift, which is slow. A larger patch is only nicer.
GROWTH_DOUBLINGS = 5
TRADE_DOUBLINGS = 8
# A change of what others hold, as a share of the memory, after which it is repeated at once.
OUTSIDE_CHANGE = 0.004
# So often a run that has arrived exchanges batch for patch: the first is worth the move, and one
# that is never content would not settle.
TRADES = 4


@dataclass
class Pause:
    """A search that found nothing is not repeated before window `until`."""

    until: int = 0
    failures: int = 0

    def lengthen(self, now: int, doublings: int) -> None:
        """It found nothing again."""
        self.failures += 1
        self.until = now + 2 ** min(doublings, self.failures)


@dataclass
class Pace:
    """What the decision to move rests on beside the memory itself. All of it is state.

    Attributes:
        arrived: use has been within the band since the run began.
        stays: it had arrived at the present shape in another process than this one.
        beyond: windows in a row outside it.
        moves: the last ones as (window, 1 for growth and -1 for less).
        held_until: no growth before this window.
        holds: times that moves were held.
        trades: times that batch was exchanged for patch.
        growth: between searches for a larger shape.
        trade: between searches for a larger patch.
        outside_then: bytes that others held when the last search for a larger shape found nothing.
    """

    arrived: bool = False
    stays: bool = False
    beyond: int = 0
    moves: list[tuple[int, int]] = field(default_factory=list)
    held_until: int = 0
    holds: int = 0
    trades: int = 0
    growth: Pause = field(default_factory=Pause)
    trade: Pause = field(default_factory=Pause)
    outside_then: int = 0

    def inside(self) -> None:
        """A window was within the band."""
        self.arrived = True
        self.beyond = 0

    def outside(self) -> bool:
        """A window was outside the band; whether that is enough to move."""
        self.beyond += 1
        return not self.arrived or self.beyond >= PATIENCE

    def held(self, now: int) -> bool:
        """Whether moves went up and down, so that nothing but an emergency moves."""
        return now < self.held_until

    def looks_for_more(self, now: int, outside: int, total: int) -> bool:
        """Whether a search for a larger shape may find something by now. All in bytes but `now`."""
        changed = abs(outside - self.outside_then) >= OUTSIDE_CHANGE * total
        return now >= self.growth.until or changed

    def nothing_more(self, now: int, outside: int) -> None:
        """That search found nothing."""
        self.growth.lengthen(now, GROWTH_DOUBLINGS)
        self.outside_then = outside

    def trades_now(self, now: int) -> bool:
        """Whether batch may be exchanged for patch."""
        if self.stays and self.trade.failures:
            # What found nothing in the former process might find something in what this one holds
            # less, and that is no room.
            return False
        return self.trades < TRADES and now >= max(self.held_until, self.trade.until)

    def no_trade(self, now: int) -> None:
        """The search for a larger patch found nothing."""
        self.trade.lengthen(now, TRADE_DOUBLINGS)

    def moved(self, now: int, *, grows: bool) -> None:
        """Note a move. Too much up and down is held, for longer each time."""
        self.beyond = 0
        self.stays = False
        self.look_anew()
        self.moves = [*self.moves, (now, 1 if grows else -1)][-MOVES_KEPT:]
        recent = [direction for window, direction in self.moves if now - window <= REVERSAL_MEMORY]
        if sum(a != b for a, b in itertools.pairwise(recent)) >= REVERSALS:
            self.held_until = now + HOLD_WINDOWS * 2 ** min(HOLD_DOUBLINGS, self.holds)
            self.holds += 1
            self.moves = []

    def look_anew(self) -> None:
        """At another shape or within other bounds, searches may find something again."""
        self.growth = Pause()
        self.trade = Pause()
        self.outside_then = 0

    def elsewhere(self, *, same_memory: bool) -> Pace:
        """What of it still counts where the run goes on with another memory or other bounds."""
        if not same_memory:
            return Pace(holds=self.holds)
        return Pace(holds=self.holds, held_until=self.held_until, trades=self.trades)
