"""Smoothing in time. Whole tracks are filtered without phase; nothing is smoothed across a cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

T = TypeVar("T")

DELAY_LINE = (0.25, 0.75, 1.0, 0.75, 0.25)
"""Weights over five frames, centred: what published video editing in W+ uses."""


SHORT_LINE = (0.25, 0.5, 0.25)
"""Weights over three frames, for what must follow a blink."""


def segments(length: int, cuts: Sequence[int]) -> list[slice]:
    """The stretches between cuts, in order, without empty ones."""
    edges = [0, *sorted(c for c in set(cuts) if 0 < c < length), length]
    return [slice(a, b) for a, b in pairwise(edges) if b > a]


def zero_phase(values: NDArray[np.floating], sigma: float, cuts: Sequence[int] = ()) -> NDArray[np.float64]:
    """Gaussian filter along the first axis, `sigma` in frames; symmetric, so nothing lags. 0: as it is."""
    out = values.astype(np.float64)
    if sigma > 0:
        for part in segments(len(out), cuts):
            out[part] = gaussian_filter1d(out[part], sigma, axis=0, mode="nearest")
    return out


def causal(
    items: Iterable[tuple[T, NDArray[np.float32], float, int]], sigma: float
) -> Iterator[tuple[T, NDArray[np.float32]]]:
    """Exponential filter for a live source, with the lag of a Gaussian's `sigma` frames halved.

    Args:
        items: (passenger, value, time in frames, of which some may have been dropped, segment); of another segment
            nothing is remembered.
        sigma: in frames; 0: none.

    Yields:
        (passenger, filtered value), each before the next item is asked for.
    """
    state: NDArray[np.float64] | None = None
    before, earlier = 0.0, 0
    for passenger, value, now, segment in items:
        keep = (sigma / (sigma + 1)) ** max(1.0, now - before)
        fresh = state is None or segment != earlier
        state = value.astype(np.float64) if fresh else keep * state + (1 - keep) * value
        before, earlier = now, segment
        yield passenger, state.astype(np.float32)


def delay_line(
    items: Iterable[tuple[T, NDArray[np.float32], int]], weights: Sequence[float] = DELAY_LINE
) -> Iterator[tuple[T, NDArray[np.float32]]]:
    """Filter a stream by a short symmetric window, holding back only half of it: no lag in the result.

    Args:
        items: (passenger, value, segment) per frame; values of another segment have no weight.
        weights: an odd number, symmetric; renormalised at the ends of the stream and of segments.

    Yields:
        (passenger, smoothed value), in order, one for each item.
    """
    reach = len(weights) // 2
    window: deque[tuple[T, NDArray[np.float32], int]] = deque()
    here = 0  # index in the window of the item that is next to leave

    def smoothed() -> tuple[T, NDArray[np.float32]]:
        passenger, _, segment = window[here]
        near = [
            (weights[reach + i - here], value)
            for i, (_, value, other) in enumerate(window)
            if abs(i - here) <= reach and other == segment
        ]
        total = sum(weight for weight, _ in near)
        return passenger, np.sum([(weight / total) * value for weight, value in near], axis=0, dtype=np.float32)

    for item in items:
        window.append(item)
        if len(window) - here > reach:
            yield smoothed()
            here += 1
        if here > reach:
            window.popleft()
            here -= 1
    while here < len(window):
        yield smoothed()
        here += 1
