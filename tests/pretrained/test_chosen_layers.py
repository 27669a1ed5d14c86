"""`--layers auto` with real networks: the layer with the expression is found, and a resumed run keeps its choice."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from clips import make_clip
from PIL import Image

from reenact import PRESETS, reenact, splicing
from reenact.expression import Probe
from reenact.face_landmarker import FaceLandmarkerNets
from reenact.fuse import from_driver
from reenact.generators import mobile
from reenact.images import to_rgb, write_image
from reenact.invert import TARGET
from reenact.layers import Swaps, choose_layers, unlike
from reenact.options import Hooks
from reenact.perceptual import load_vgg
from reenact.resume import Checkpoint
from reenact.trace import Trace

pytestmark = pytest.mark.pretrained

CPU, SIDE = torch.device("cpu"), 128
FREE = (2, 4, 5)


@pytest.fixture(scope="module")
def generator(store):
    return mobile.create(store, CPU)


@pytest.fixture(scope="module")
def people(generator):
    """Two people [2,L,512] that nobody is."""
    noise = torch.randn(2, 512, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        return generator.mean_latent + 0.6 * (generator.map(noise)[:, None] - generator.mean_latent)


def test_the_only_layer_that_differs_is_found(store, generator, people):
    target, driver = people[0].numpy(), people[0].numpy().copy()
    driver[5] = people[1, 5].numpy()
    nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
    with torch.inference_mode():
        pictures = [generator.synthesize(torch.from_numpy(w)[None], SIDE) for w in (target, driver)]
        probe = Probe(nets, pictures[0])
        goals = probe(pictures[1])
    person = unlike(load_vgg(store, CPU, torch.bfloat16), pictures[0], TARGET)
    measure = Swaps(generator, SIDE, target, driver[None], None, person, probe, goals)
    assert measure(()) == pytest.approx((0, 1), abs=0.02)
    assert measure((5,)) == pytest.approx((1, 0), abs=0.02)
    assert measure((2, 4)) == pytest.approx((0, 1), abs=0.02)
    choice = choose_layers(FREE, FREE, measure)
    assert 5 in choice.chosen.slots
    assert choice.chosen.objective == pytest.approx(1, abs=0.05)


def test_a_run_chooses_tells_and_keeps(store, generator, people, tmp_path, monkeypatch):
    changed = people[1].clone()
    changed[[4, 5]] = people[0, 0]
    with torch.inference_mode():
        write_image(tmp_path / "target.png", to_rgb(generator.synthesize(people[:1], 256))[0])
        path = torch.stack([torch.lerp(people[1], changed, t) for t in torch.linspace(0, 1, 3)])
        acted = to_rgb(generator.synthesize(path, 256))
    driver = make_clip(
        tmp_path / "driver.mp4", tuple(range(3)), size=(256, 256), picture=lambda i, width, height: acted[i]
    )
    monkeypatch.setattr(mobile.MobileGenerator, "live_layers", FREE)
    fast = PRESETS["fast"]
    options = replace(
        fast, size=SIDE, steps=2, driver=replace(fast.driver, steps=1),
        fuse=replace(fast.fuse, method="splice", layers="auto"),
    )  # fmt: skip
    trace, said = Trace(tmp_path / "trace"), []
    hooks = Hooks(layers=trace.layers, note=said.append, warn=said.append)

    def run(resume):
        checkpoint = Checkpoint(tmp_path / "checkpoint", resume)
        return reenact(tmp_path / "target.png", driver, options, store, hooks, checkpoint)

    begun = run(resume=False)
    first = next(begun).rgb
    begun.close()
    assert sum(line.startswith("layers: ") for line in said) == 1
    chosen = json.loads((tmp_path / "trace" / "layers.json").read_text())["chosen"]["slots"]
    assert chosen
    assert min(Image.open(tmp_path / "trace" / "layers.png").size) > 200

    monkeypatch.setattr(splicing, "choose_layers", lambda *words: pytest.fail("chosen anew"))
    used = []
    monkeypatch.setattr(splicing, "from_driver", lambda slots, count: used.append(slots) or from_driver(slots, count))
    again = [frame.rgb for frame in run(resume=True)]
    assert len(again) == 3
    assert np.array_equal(again[0], first)
    assert used == [tuple(chosen)]
    assert f"layers: {','.join(map(str, chosen))}, as chosen before" in said
