"""Each step beside another implementation of it, or beside the statistics that define it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import color, data, filters

from traiNNer.ops.degradations import blur, compression, noise, resizing, signals
from traiNNer.ops.degradations.base import Draws, Frames
from traiNNer.ops.degradations.codecs import open_encoder
from traiNNer.utils.registry import DEGRADATIONS

PHOTO = data.astronaut()[60:220, 150:342]
FRAMES = (PHOTO / 255).astype(np.float32)[None]


def done(step: Any, frames: Frames = FRAMES, seed: int = 1) -> tuple[Frames, dict[str, Any]]:
    """What a step makes of frames, and what it drew."""
    draws = Draws(seed, (40, 48))
    return step(frames.copy(), draws), draws.values


def flat(value: float, side: int = 400) -> Frames:
    return np.full((1, side, side, 3), value, dtype=np.float32)


def largest(ours: Frames, theirs: Any, border: int = 0) -> float:
    """The largest difference in levels of 255."""
    difference = np.abs(ours[0] - theirs)
    height, width = difference.shape[:2]
    return float(difference[border : height - border, border : width - border].max() * 255)


def relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / abs(theirs)


def gaussian_blur() -> float:
    ours, drawn = done(blur.Blur(1.7))
    theirs = ndimage.gaussian_filter(FRAMES[0], (drawn["sigma"],) * 2 + (0,), mode="mirror")
    return largest(ours, theirs)


def lopsided_kernel() -> float:
    kernel = np.random.default_rng(3).random((7, 7))
    kernel /= kernel.sum()
    theirs = ndimage.convolve(FRAMES[0], kernel[..., None], mode="mirror")
    return largest(blur.convolve(FRAMES, kernel), theirs)


def moments(kernel: blur.Kernel) -> np.ndarray:
    """The covariance of a kernel's places, in pixels."""
    x, y = (places.ravel() for places in blur.offsets(len(kernel)))
    return np.cov(np.stack([x, y]), aweights=kernel.ravel(), ddof=0)


def turned_gaussian() -> float:
    angle = 0.6
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    wanted = turn @ np.diag([9.0, 2.25]) @ turn.T
    return float(np.abs(moments(blur.bell_kernel(41, 3.0, 1.5, angle)) - wanted).max())


def generalized_gaussian() -> float:
    row = blur.bell_kernel(41, 3.0, 3.0, 0, 1.8)[20, 20:]
    places = np.arange(1, 9)
    # ln of -ln of the fall is a line of slope 2 beta.
    fall = np.log(-np.log(row[places] / row[0]))
    return relative(np.polyfit(np.log(places), fall, 1)[0], 2 * 1.8)


def plateau() -> float:
    row = blur.bell_kernel(41, 3.0, 3.0, 0, 1.4, plateau=True)[20, 20:]
    places = np.arange(1, 9)
    rise = np.log(row[0] / row[places] - 1)
    return relative(np.polyfit(np.log(places), rise, 1)[0], 2 * 1.4)


def sinc() -> float:
    cutoff = 0.5
    spectrum = np.abs(np.fft.fft2(blur.sinc_kernel(101, cutoff * math.pi)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(101), np.fft.fftfreq(101))) * 2
    passed = np.abs(spectrum[frequency < cutoff - 0.1] - 1).max()
    stopped = spectrum[frequency > cutoff + 0.1].max()
    return float(max(passed, stopped))


def moved() -> float:
    length, angle = 14.0, 0.5
    along = np.array([math.cos(angle), math.sin(angle)])
    spread = along @ moments(blur.line_kernel(length, angle)) @ along
    # Points shared among their neighbours spread by up to a quarter of a square pixel.
    return relative(spread, length**2 / 12)


def disc() -> float:
    return relative(float(np.trace(moments(blur.disc_kernel(6.3)))), 6.3**2 / 2)


def sharpened() -> float:
    ours, drawn = done(blur.Sharpen((0.4, 0.6), (1.0, 2.0)))
    theirs = filters.unsharp_mask(
        FRAMES[0].astype(np.float64), drawn["sigma"], drawn["amount"], channel_axis=2
    )
    # At the border the two mirror in different ways.
    return largest(np.clip(ours, 0, 1), theirs, border=10)


def shrunk() -> float:
    ours, _ = done(resizing.ToLq(["bicubic"], antialias=1.0))
    planes = [Image.fromarray(FRAMES[0, ..., channel]) for channel in range(3)]
    theirs = [plane.resize((48, 40), Image.Resampling.BICUBIC) for plane in planes]
    return largest(ours, np.stack([np.asarray(plane) for plane in theirs], -1))


def shrunk_without_antialiasing() -> float:
    ours, _ = done(resizing.ToLq(["bilinear"], antialias=0.0))
    return largest(ours, cv2.resize(FRAMES[0], (48, 40), interpolation=cv2.INTER_LINEAR))


def white_noise() -> float:
    ours, drawn = done(noise.GaussianNoise((10, 12), grey=0.0), flat(0.5))
    difference = (ours - 0.5)[0, ..., 0] * 255
    neighbours = abs(np.corrcoef(difference[:, 1:].ravel(), difference[:, :-1].ravel())[0, 1])
    return max(relative(difference.std(), drawn["sigma"]), neighbours)


def counted_noise() -> float:
    ours, drawn = done(noise.PoissonNoise((1.0, 2.0), grey=0.0), flat(100 / 255))
    return relative(float((ours * 255).std()), drawn["scale"] * 10)


def sensor() -> float:
    light = 0.4
    ours, drawn = done(noise.SensorNoise(0.002, 0.01), flat(light ** (1 / 2.2)))
    del drawn
    return relative(float((ours**2.2).var()), 0.002 * light + 0.01**2)


def grain() -> float:
    ours, drawn = done(noise.FilmGrain(10.0, 1.2), flat(0.5))
    plane = (ours[0, ..., 0] - 0.5) * 255
    neighbours = np.corrcoef(plane[:, 1:].ravel(), plane[:, :-1].ravel())[0, 1]
    wanted = math.exp(-1 / (4 * drawn["size"] ** 2))
    return max(relative(plane.std(), 10.0), relative(neighbours, wanted))


def salt() -> float:
    ours, _ = done(noise.SaltAndPepper(0.1, salt=0.3), flat(0.5))
    white = float((ours == 1).mean())
    black = float((ours == 0).mean())
    return max(relative(white, 0.03), relative(black, 0.07))


def by_pillow(name: str, **settings: Any) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, name, **settings)
    return np.asarray(Image.open(buffer).convert("RGB")) / 255


def jpeg() -> float:
    differences = [
        largest(
            done(compression.Jpeg(quality, [sampling]))[0],
            by_pillow("JPEG", quality=quality, subsampling=code),
        )
        for quality in (10, 50, 92)
        for sampling, code in (("420", 2), ("422", 1), ("444", 0))
    ]
    return max(differences)


def webp() -> float:
    return max(
        largest(done(compression.Webp(quality))[0], by_pillow("WEBP", quality=quality))
        for quality in (20, 80)
    )


def halved_colors() -> float:
    ours, _ = done(signals.ChromaSubsampling(["420"], smooth=0.0))
    theirs = color.rgb2ycbcr(FRAMES[0])
    wanted = theirs[..., 1:].reshape(80, 2, 96, 2, 2).mean((1, 3))
    found = color.rgb2ycbcr(ours[0])
    colors = np.abs(found[::2, ::2, 1:] - wanted).max()
    return float(max(colors, np.abs(found[..., 0] - theirs[..., 0]).max()))


def aberration() -> float:
    # A whole number of 32nds, to which OpenCV rounds.
    ours, drawn = done(signals.ChromaticAberration(1.25))
    right = 1.25 * math.cos(drawn["angle"])
    down = 1.25 * math.sin(drawn["angle"])
    planes = [FRAMES[0, ..., channel] for channel in range(3)]
    red = ndimage.shift(planes[0], (down, right), order=1, mode="mirror")
    blue = ndimage.shift(planes[2], (-down, -right), order=1, mode="mirror")
    return largest(ours, np.stack([red, planes[1], blue], -1))


def demosaicing() -> float:
    step = signals.Demosaic(["bilinear"])
    differences: list[float] = []
    seen: set[str] = set()
    for seed in range(20):
        ours, drawn = done(step, seed=seed)
        pattern = drawn["pattern"]
        seen.add(pattern)
        theirs = np.zeros_like(FRAMES[0])
        for channel, name in enumerate("rgb"):
            mask = np.zeros(FRAMES.shape[1:3])
            for place, letter in enumerate(pattern):
                mask[place // 2 :: 2, place % 2 :: 2] = letter == name
            kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
            if name == "g":
                kernel = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
            known = FRAMES[0, ..., channel] * mask
            theirs[..., channel] = ndimage.convolve(known, kernel, mode="mirror")
        differences.append(largest(ours, theirs))
    assert len(seen) == 4
    return max(differences)


def combs() -> float:
    ours, drawn = done(signals.Interlace(3.0))
    theirs = FRAMES[0].copy()
    moved = ndimage.shift(FRAMES[0], (0, 3.0 * drawn["side"], 0), order=1, mode="mirror")
    theirs[drawn["first_line"] :: 2] = moved[drawn["first_line"] :: 2]
    return largest(ours, theirs)


def tape() -> float:
    ours, _ = done(signals.Tape(luma_blur=1.0, chroma_blur=3.0, delay=2.0, jitter=0.0))
    planes = color.rgb2ycbcr(FRAMES[0].astype(np.float64))
    luma = ndimage.gaussian_filter1d(planes[..., 0], 1.0, axis=1, mode="mirror")
    colors = ndimage.gaussian_filter1d(planes[..., 1:], 3.0, axis=1, mode="mirror")
    colors = ndimage.shift(colors, (0, 2, 0), order=1, mode="mirror")
    theirs = color.ycbcr2rgb(np.dstack([luma, colors]))
    # Their kernel is a little longer.
    return largest(np.clip(ours, -1, 2), theirs)


def bands() -> float:
    ours, _ = done(signals_levels(9, dithered=0.0))
    theirs = np.round(FRAMES[0].astype(np.float64) * 8) / 8
    return largest(ours, theirs)


def signals_levels(levels: int, dithered: float) -> Any:
    return compression.Quantize(levels, dithered)


def dots() -> float:
    differences: list[float] = []
    for light in (0.13, 0.4, 0.77):
        ours, _ = done(signals_levels(5, dithered=1.0), flat(light, 64))
        assert set(np.unique(np.round(ours * 4, 5))) <= {0, 1, 2, 3, 4}
        # The mean of a square is right to one of its 64 pixels.
        differences.append(abs(float(ours.mean()) - light) * 4)
    return max(differences)


def few_colors() -> float:
    ours, _ = done(compression.Palette(32, dithered=0.0))
    found = np.unique(ours[0].reshape(-1, 3), axis=0)
    # Each pixel has the nearest of the colours.
    distances = ((FRAMES[0][:, :, None] - found) ** 2).sum(-1)
    chosen = ((FRAMES[0] - ours[0]) ** 2).sum(-1)
    assert len(found) <= 32
    return float(np.sqrt(chosen).mean() / np.sqrt(distances.min(-1)).mean()) - 1


def avif() -> float:
    return max(
        largest(
            done(compression.Avif(quality, ["444"]))[0],
            by_pillow("AVIF", quality=quality, subsampling="4:4:4", speed=8, max_threads=1),
        )
        for quality in (20, 80)
    )


def by_container(encoder: str, frames: Frames, options: dict[str, str]) -> np.ndarray:
    """Written to a Matroska file and read again, as a player does."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as writing:
        stream = cast("av.VideoStream", writing.add_stream(encoder, rate=25, options=options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        open_encoder(stream.codec_context)
        for frame in frames:
            picture = av.VideoFrame.from_ndarray((frame * 255).round().astype(np.uint8), "rgb24")
            writing.mux(stream.encode(picture.reformat(format="yuv420p")))
        writing.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as reading:
        decoded = [frame.to_ndarray(format="rgb24") for frame in reading.decode(video=0)]
    return np.stack(decoded) / 255


def codec(name: str, **settings: Any) -> Callable[[], float]:
    def compare() -> float:
        clip = np.stack([FRAMES[0, shift : shift + 112, shift : shift + 128] for shift in range(5)])
        step: Any = DEGRADATIONS[name](**settings)
        ours, drawn = done(step, clip)
        theirs = by_container(step.encoder, clip, step.options(drawn[step.measure]))
        assert np.abs(ours - clip).mean() > 0.002
        return float(np.abs(ours - theirs).max() * 255)

    return compare


# What is compared with what, and how far apart they may be: levels of 255, or a share.
COMPARISONS: dict[str, tuple[Callable[[], float], str, float]] = {
    "blur, Gaussian": (gaussian_blur, "SciPy, levels", 0.5),
    "convolution": (lopsided_kernel, "SciPy, levels", 0.01),
    "blur, turned": (turned_gaussian, "covariance, pixels", 0.05),
    "blur, generalised": (generalized_gaussian, "exponent, share", 0.001),
    "blur, plateau": (plateau, "exponent, share", 0.001),
    "sinc": (sinc, "spectrum, share", 0.06),
    "motion blur": (moved, "variance, share", 0.05),
    "lens blur": (disc, "variance, share", 0.02),
    "sharpen": (sharpened, "scikit-image, levels", 0.5),
    "to_lq, antialiased": (shrunk, "Pillow, levels", 0.01),
    "to_lq, not antialiased": (shrunk_without_antialiasing, "OpenCV, levels", 0.01),
    "Gaussian noise": (white_noise, "moments, share", 0.02),
    "Poisson noise": (counted_noise, "moments, share", 0.02),
    "sensor noise": (sensor, "moments, share", 0.02),
    "film grain": (grain, "moments, share", 0.03),
    "salt and pepper": (salt, "shares, share", 0.03),
    "JPEG": (jpeg, "Pillow, levels", 1.001),
    "WebP": (webp, "Pillow, levels", 1.001),
    "AVIF": (avif, "Pillow, levels", 1.001),
    "palette": (few_colors, "nearest, share", 0.1),
    "quantize": (bands, "rounding, levels", 0.01),
    "quantize, dithered": (dots, "mean, share of a level", 1 / 32),
    "chroma subsampling": (halved_colors, "scikit-image, levels", 0.6),
    "chromatic aberration": (aberration, "SciPy, levels", 4.0),
    "demosaic": (demosaicing, "SciPy, levels", 0.02),
    "interlace": (combs, "SciPy, levels", 0.01),
    "tape": (tape, "SciPy, levels", 0.6),
    "H.264": (codec("h264", crf=28), "FFmpeg, levels", 0.01),
    "H.265": (codec("h265", crf=28), "FFmpeg, levels", 0.01),
    "AV1": (codec("av1", crf=40), "FFmpeg, levels", 0.01),
    "VP9": (codec("vp9", crf=40), "FFmpeg, levels", 0.01),
    "MPEG-2": (codec("mpeg2", quantizer=8), "FFmpeg, levels", 0.01),
    "MPEG-4": (codec("mpeg4", quantizer=8), "FFmpeg, levels", 0.01),
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_step_is_what_another_makes_it(name: str) -> None:
    compare, what, most = COMPARISONS[name]
    found = compare()
    # The table of all steps, with pytest -s.
    print(f"{name:<24} {what:<22} {found:10.5f}  at most {most}")  # noqa: T201
    assert found <= most


@pytest.mark.parametrize("step", [noise.GaussianNoise(9.0, grey=1.0), noise.PoissonNoise(1.0, 1.0)])
def test_grey_noise_is_the_same_in_all_channels(step: Any) -> None:
    ours, _ = done(step)
    difference = ours - FRAMES
    assert np.ptp(difference, axis=-1).max() < 1e-6
    assert difference.std() > 0.01


def test_blocks_of_a_shifted_grid_lie_elsewhere() -> None:
    straight, _ = done(compression.Jpeg(15))
    shifted, drawn = done(compression.Jpeg(15, shifted=1.0))
    assert (drawn["down"], drawn["right"]) != (0, 0)
    padded = np.pad(FRAMES, ((0, 0), (drawn["down"], 0), (drawn["right"], 0), (0, 0)), "edge")
    whole, _ = done(compression.Jpeg(15), padded)
    np.testing.assert_array_equal(shifted, whole[:, drawn["down"] :, drawn["right"] :])
    assert np.abs(shifted - straight).max() > 0.05


def test_factors_and_their_shares() -> None:
    step = resizing.Resize(down=(0.5, 0.6), up=(1.2, 1.3), shares=(0.25, 0.5, 0.25))
    ways = [done(step, seed=seed) for seed in range(400)]
    counts = {way: sum(drawn["way"] == way for _, drawn in ways) for way in ("up", "down", "keep")}
    assert abs(counts["down"] - 200) < 40
    assert abs(counts["up"] - 100) < 40
    for frames, drawn in ways:
        assert frames.shape[1] == round(160 * drawn.get("factor", 1.0))
    of_lq, drawn = done(resizing.Resize(up=2.0, shares=(1.0, 0.0, 0.0), relative_to="lq"))
    assert of_lq.shape == (1, 80, 96, 3)


def test_a_clip_has_one_kernel_and_noise_of_each_frame() -> None:
    clip = np.repeat(FRAMES, 3, axis=0)
    blurred, _ = done(blur.MotionBlur(), clip)
    np.testing.assert_array_equal(blurred[0], blurred[2])
    noisy, _ = done(noise.FilmGrain(), clip)
    assert np.abs(noisy[0] - noisy[2]).max() > 0.01
