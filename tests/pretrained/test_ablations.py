"""The experiments with the real networks, short: they look where they say, and at what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reenact import ablate
from reenact.ablate import Settings, ablate_layers, ablate_loss, ablate_steps
from reenact.generators import mobile
from reenact.images import to_rgb
from reenact.invert import TARGET
from reenact.pipeline import Options

pytestmark = pytest.mark.pretrained

FACE = Path(__file__).parents[1] / "data" / "face.png"
SETTINGS = Settings(Options(target=replace(TARGET, steps=2, sizes=((128, 1.0),), warm_up=0, decay=0.0)), 128)


def test_iteration_0_is_the_start_and_losses_are_those_of_the_curve(store, tmp_path):
    figure = ablate_steps({"face": FACE}, tmp_path, (4, 0), SETTINGS, store)
    picture, start, end = figure.rows[0]
    generator = mobile.create(store, torch.device("cpu"))
    with torch.no_grad():
        mean = to_rgb(generator.synthesize(generator.mean_latent[None], 128)[0])
    assert np.abs(start.rgb.astype(int) - mean).max() <= 1
    assert (start.scores["loss"], end.scores["loss"]) == (figure.curves["face"][0], figure.curves["face"][4])
    assert len(figure.curves["face"]) == 5
    error = np.sqrt(np.square(end.rgb.astype(float) - picture.rgb).mean())
    assert end.scores["l2"] == pytest.approx(error, rel=1e-3)
    assert error < np.sqrt(np.square(start.rgb.astype(float) - picture.rgb).mean())


def test_a_face_has_nothing_to_take_from_itself(store, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "COUNTS", (4,))
    monkeypatch.setattr(ablate, "STARTS", (4, -1))
    inputs, (*fused,) = ablate_layers(FACE, FACE, tmp_path, SETTINGS, store).rows
    assert len(fused) == 2
    for cell in fused:
        assert np.array_equal(cell.rgb, inputs[2].rgb)
        assert cell.scores == inputs[2].scores
    assert {path.name for path in (tmp_path / "pictures").iterdir()} >= {"target.png", "4-layers-from--1.png"}


def test_each_convolution_is_looked_through_by_itself(store, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "CONVS", (1, 9))
    figure = ablate_loss({"face": FACE}, tmp_path, 3, SETTINGS, store)
    assert [cell.column for cell in figure.measured] == ["convolution 1", "convolution 9"]
    for losses in figure.curves.values():
        assert len(losses) == 3
        assert losses[0] == 1 > losses[2]
    first, second = figure.measured
    assert not np.array_equal(first.rgb, second.rgb)
