"""Perceptual distance of output and truth, and tLP: whether the output changes as much from frame to frame.

Formula: LPIPS(a, b) = the sum over five layers of the mean over places of Σ_c w_c (a_c - b_c)², with a and b the
layer's rectified features scaled to length 1 at each place; tLP(t) = |LPIPS(truth t-1, truth t) - LPIPS(output t-1,
output t)|, by VGG. No unit; 0 is the same, 1 very far. Networks: VGG-16 and AlexNet with the heads of ST-LPIPS, in
full precision. Resolution: the whole frame brought to 256x256 pixels, each the average of those it covers (a frame
that is not square is squeezed). The first frame of a scene has no tLP.
Sources: Ghildyal & Liu, "Shift-tolerant Perceptual Similarity Metric" (2022), package stlpips_pytorch 0.0.2; tLP:
Chu et al., "Learning Temporal Coherence via Self-Supervision for GAN-based Video Generation" (2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from ..images import to_tensor
from ..perceptual import AlexNet, Vgg16, load_alex, load_vgg, lpips_distance, lpips_features
from ..types import Rgb, Score
from . import Context, Sample
from ._series import NO_TRUTH, by_frame

SIZE = 256

Features = tuple[list[Tensor], list[Tensor]]  # of the output's frame and of the truth's


def create(context: Context) -> StLpips | str:
    """The metric; it needs a truth.

    Raises:
        WeightsError: a network's weights can't be had.
    """
    if not context.truth:
        return NO_TRUTH
    cuts = {*context.output.track.cuts, *context.truth.track.cuts}
    networks = load_vgg(context.store, context.device), load_alex(context.store, context.device)
    return StLpips(*networks, context.device, cuts)


class StLpips:
    """See `metrics.Metric`. Scores `st-lpips-vgg`, `st-lpips-alex` and `tlp`. Keeps one frame's features."""

    def __init__(self, vgg: Vgg16, alex: AlexNet, device: torch.device, cuts: set[int]) -> None:
        """`cuts` are the frames that have none before them to be compared with."""
        self._vgg, self._alex, self._device, self._cuts = vgg, alex, device, cuts
        self._before: Features | None = None
        self._values: list[tuple[float, float, float]] = []

    @torch.inference_mode()
    def update(self, sample: Sample) -> None:
        """See `metrics.Metric.update`."""
        assert sample.truth
        output, truth = (to_tensor(_small(view.rgb), self._device) for view in (sample.output, sample.truth))
        now = lpips_features(self._vgg, output), lpips_features(self._vgg, truth)
        alex = lpips_distance(lpips_features(self._alex, output), lpips_features(self._alex, truth))
        before = None if sample.index in self._cuts else self._before
        self._values.append((lpips_distance(*now).item(), alex.item(), _tlp(before, now) if before else np.nan))
        self._before = now

    def score(self) -> Sequence[Score]:
        """See `metrics.Metric.score`."""
        vgg, alex, tlp = np.array(self._values, np.float64).reshape(-1, 3).T
        return [
            by_frame("st-lpips-vgg", "", "lower", vgg, f"VGG-16, {SIZE}x{SIZE}", "no frame"),
            by_frame("st-lpips-alex", "", "lower", alex, f"AlexNet, {SIZE}x{SIZE}", "no frame"),
            by_frame("tlp", "", "lower", tlp, f"VGG-16, {SIZE}x{SIZE}", "the first of a scene follows none"),
        ]


def _tlp(before: Features, now: Features) -> float:
    output, truth = (lpips_distance(a, b).item() for a, b in zip(before, now, strict=True))
    return abs(truth - output)


def _small(rgb: Rgb) -> Rgb:
    return np.asarray(cv2.resize(rgb, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)
