"""The shipped map: the mean face shows what it is asked for, measured again in its picture."""

import pytest
import torch

from reenact import mapper
from reenact.expression import NAMES, Probe, limited, unsquashed
from reenact.face_landmarker import BLENDSHAPES, FaceLandmarkerNets
from reenact.generators import mobile
from reenact.invert import Whitening
from reenact.motion import Basis
from reenact.weights import shipped_for

pytestmark = pytest.mark.pretrained
SIZE = 256


@pytest.fixture(scope="module")
def shown(store):
    """What is asked for -> what the drawn face shows: how far its lips part, its blendshapes, the light inside."""
    cpu = torch.device("cpu")
    generator = mobile.create(store, cpu, torch.float32)
    nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
    white, learnt = Whitening(generator), mapper.LatentMapper.load(shipped_for("mobile", "mapper"))
    slots = list(generator.expression_layers)
    neutral = torch.from_numpy(Basis.load().neutral)

    @torch.inference_mode()
    def show(lips=0.0, dark=0.0, **blendshapes):
        asked = neutral.clone()
        for name, value in blendshapes.items():
            asked[[BLENDSHAPES.index(n) for n in (name, name + "Left", name + "Right") if n in BLENDSHAPES]] = value
        goal = torch.zeros(len(NAMES))
        for i, name in enumerate(NAMES):
            if name in BLENDSHAPES:
                goal[i] = unsquashed(asked[None, [BLENDSHAPES.index(name)]])[0, 0]
        goal[NAMES.index("lips open")], goal[NAMES.index("mouth dark")] = lips, dark
        w = generator.mean_latent.clone()
        w[slots] = white.colour(white.white(w[slots]) + learnt(limited(goal)))
        picture = generator.synthesize(w[None], SIZE)
        probe = Probe(nets, picture)
        _, seen, inside = probe.look(picture)
        named = dict(zip(BLENDSHAPES, seen[0].tolist(), strict=True))
        return probe(picture)[0, NAMES.index("lips open")].item(), named, inside.item()

    return show


def test_at_rest_the_lips_are_shut_and_do_not_smile(shown):
    lips, seen, _ = shown()
    assert lips < 0.03
    assert seen["jawOpen"] < 0.05
    assert seen["mouthSmileLeft"] < 0.35


def test_lips_part_as_far_as_asked(shown):
    asked = (0.15, 0.3, 0.5)
    drawn = [shown(lips=v, dark=0.5 * v, jawOpen=v)[0] for v in asked]
    for wanted, lips in zip(asked, drawn, strict=True):
        assert 0.6 * wanted < lips < 1.3 * wanted


def test_an_open_mouth_is_dark_and_a_smile_shows_teeth(shown):
    _, _, inside = shown(lips=0.5, dark=0.35, jawOpen=0.6)
    assert inside < 0.6
    _, seen, inside = shown(lips=0.25, dark=0.03, mouthSmile=0.95, mouthUpperUp=0.5, jawOpen=0.1)
    assert inside > 0.75
    assert seen["mouthSmileLeft"] > 0.75


def test_a_pucker_is_one(shown):
    assert shown(mouthPucker=0.9, mouthSmile=0.02)[1]["mouthPucker"] > 0.5
