"""Which recipe each search of a run gets, and under which name it is told; the search itself is another's."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reenact import run as running
from reenact import splicing
from reenact.invert import DRIVER, TARGET
from reenact.options import Hooks, Options
from reenact.splicing import SplicedRun

CROP = np.array([[64.0, 0, 0], [0, 64, 0]])
POINTS = np.array([[x, y] for x in range(20, 44) for y in range(20, 44)], np.float32)[:68]


@pytest.fixture
def searched(monkeypatch):
    """The recipes that `invert` is given."""
    recipes = []

    def invert(generator, network, picture, options, *more, **named):
        recipes.append(options)
        return SimpleNamespace(losses=(0.5,), ran_away=False, latent=SimpleNamespace(w=np.zeros((2, 512), np.float32)))

    monkeypatch.setattr(running, "invert", invert)
    monkeypatch.setattr(splicing, "invert", invert)
    return recipes


def run(told=None, **options):
    """A run of which only what a search needs is there."""
    made = SplicedRun.__new__(SplicedRun)
    made.options, made.device, made.hooks = Options(**options), torch.device("cpu"), Hooks(losses=told or Hooks.losses)
    made.target, made.crop, made.face = np.zeros((64, 64, 3), np.uint8), CROP, SimpleNamespace(points=POINTS)
    made.generator, made.encoder, made.mapper = SimpleNamespace(sizes=(64,)), None, None
    made.vgg = made.whitening = made.checkpoint = None
    return made


@pytest.mark.parametrize("tune", [False, True])
def test_the_target_is_found_by_the_recipe_that_was_asked_for_tuned_or_not(searched, tune):
    target = replace(TARGET, rate=0.5, patience=3, steps=7)
    run(target=target, tune=tune)._invert_target()
    assert searched == [target]


def test_searches_of_one_frame_are_told_by_what_they_are_for(searched):
    told = []
    frame, start = SimpleNamespace(rgb=np.zeros((64, 64, 3), np.uint8), index=3), torch.zeros(2, 512)
    made = run(lambda name, losses: told.append(name))
    made._invert_frame(frame, CROP, POINTS, None, "anchor")
    made._invert_frame(frame, CROP, POINTS, start, "telling")
    made._invert_frame(frame, CROP, POINTS, start)
    assert told == ["anchor 3", "telling 3", "driver 3"]
    assert [each.steps for each in searched] == [TARGET.steps // 2, TARGET.steps // 2, DRIVER.steps]
