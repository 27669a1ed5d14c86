"""The shipped encoder: a search that begins with what it tells is nearer at once, and the program's begins so."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reenact import run as running
from reenact.devices import quick_dtype
from reenact.encoder import Encoder
from reenact.generators import mobile
from reenact.invert import COLOURS, TARGET, Whitening, invert
from reenact.options import PRESETS, Hooks
from reenact.perceptual import load_vgg
from reenact.run import Run
from reenact.weights import shipped_for

pytestmark = pytest.mark.pretrained

CPU = torch.device("cpu")
SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def generator(store):
    return mobile.create(store, CPU, quick_dtype(CPU))


@pytest.fixture(scope="module")
def learnt():
    return Encoder.load(shipped_for("mobile", "encoder"))


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_the_first_step_is_nearer_than_from_the_mean_face(store, generator, learnt, seed):
    with torch.no_grad():
        w = generator.map(torch.randn(1, 512, generator=torch.Generator().manual_seed(seed)))
        picture = generator.synthesize(torch.lerp(generator.mean_latent, w, 0.8)[None], 128)
    whitening, network = Whitening(generator), load_vgg(store, CPU)
    once = replace(TARGET, steps=1, shape=0.0, prior=0.0, near=0.0)
    start = learnt.latent(generator, whitening, picture)
    near, far = (
        invert(generator, network, picture, once, each, whitening=whitening).losses[0] for each in (start, None)
    )
    assert near < 0.8 * far


def begun(store, monkeypatch, **changed):
    """The starts of a run's searches for the target's colours, and the mean face's slots at it."""
    starts = []

    def noted(generator, network, picture, options, start, *args, **more):
        starts.append(start)
        return invert(generator, network, picture, replace(options, steps=1), start, *args, **more)

    monkeypatch.setattr(running, "invert", noted)
    options = replace(PRESETS["fast"], max_frames=1, **changed)
    run = Run(SAMPLES / "target.jpg", SAMPLES / "driver.mp4", options, store, Hooks())
    return run, starts[0]


def test_the_target_is_looked_for_from_there_with_its_expression_held(store, monkeypatch):
    run, start = begun(store, monkeypatch)
    shown = run._showing(run.generator.mean_latent, run.rest.expression)
    held = list(run.generator.expression_layers)
    free = [slot for slot in run.generator.live_layers if slot not in held]
    assert torch.equal(start[held], shown[held])
    assert (start[free] != shown[free]).any(1).all()


def test_a_recipe_that_begins_elsewhere_is_left_alone(store, monkeypatch):
    run, start = begun(store, monkeypatch, colours=replace(COLOURS, start="mean"))
    assert torch.equal(start, run._showing(run.generator.mean_latent, run.rest.expression))
