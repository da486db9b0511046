"""A state that goes from frame to frame, for streams: in the manner of RLSP (Fuoli et al.,
2019).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from traiNNer.archs.clips import require_clip


class RecurrentState(NamedTuple):
    """What a frame leaves to the next one.

    Attributes:
        hidden: `(B, num_feat, H, W)`.
        output: the frame it made, folded into channels, `(B, 3 * upscale**2, H, W)`.
    """

    hidden: Tensor
    output: Tensor


class Recurrent(nn.Module):
    """Makes every frame from its two neighbours, the output before it and a hidden state.

    RLSP's cell, with residual blocks inside and a hidden state in -1..1, so that long streams
    cannot drive it away.

    Args:
        num_feat: channels inside, and of the hidden state.
        num_blocks: residual blocks of two convolutions.
        upscale: factor between output and input sides.
    """

    def __init__(self, *, num_feat: int = 64, num_blocks: int = 3, upscale: int = 4) -> None:
        super().__init__()
        self.num_feat = num_feat
        self.upscale = upscale
        # As many channels as a frame has values at the output's size, before pixel shuffling.
        folded = 3 * upscale**2
        # Three frames, the output before, and the hidden state.
        self.enter = nn.Conv2d(3 * 3 + folded + num_feat, num_feat, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(num_feat, num_feat, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(num_feat, num_feat, 3, padding=1),
            )
            for _ in range(num_blocks)
        )
        self.hidden = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.detail = nn.Conv2d(num_feat, folded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, 3, H, W)` to all its frames, `(B, T, 3, H * upscale, W * upscale)`; T is any
        number.
        """
        require_clip(x)
        frames = x.unbind(1)
        state = self.start(frames[0])
        outputs: list[Tensor] = []
        # At both ends a frame takes the place of its missing neighbour.
        for before, frame, after in zip(
            (frames[0], *frames), frames, (*frames[1:], frames[-1]), strict=False
        ):
            output, state = self.step(before, frame, after, state)
            outputs.append(output)
        return torch.stack(outputs, 1)

    def start(self, frame: Tensor) -> RecurrentState:
        """The state before the first frame of a clip or a stream, `(B, 3, H, W)`."""
        batch, _, height, width = frame.shape
        nothing = frame.new_zeros(batch, self.num_feat, height, width)
        # An enlarged frame is nearer to an output than black is.
        return RecurrentState(nothing, self._folded(frame))

    def step(
        self, before: Tensor, frame: Tensor, after: Tensor, state: RecurrentState
    ) -> tuple[Tensor, RecurrentState]:
        """One frame of a stream.

        Args:
            before: the frame before it, `(B, 3, H, W)`; at the start the frame itself.
            frame: the one to enlarge.
            after: the frame after it; at the end the frame itself.
            state: what the frame before left, or `start`.

        Returns:
            The frame `(B, 3, H * upscale, W * upscale)`, and the state for the next one.
        """
        x = functional.relu(
            self.enter(torch.cat([before, frame, after, state.output, state.hidden], 1))
        )
        for block in self.blocks:
            x = functional.relu(x + block(x))
        output = self._folded(frame) + self.detail(x)
        # The bound keeps what goes round and round from growing, however long the stream is.
        next_state = RecurrentState(torch.tanh(self.hidden(x)), output)
        return functional.pixel_shuffle(output, self.upscale), next_state

    def _folded(self, frame: Tensor) -> Tensor:
        """The frame enlarged by nearest neighbour, folded into channels: each value is there
        upscale**2 times.
        """
        return frame.repeat_interleave(self.upscale**2, 1)
