"""The samples that an encoder is fitted to: however many are asked for, and wherever drawing them stopped."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from programs import loaded

GENERATOR = SimpleNamespace(
    live_layers=(0, 2), synthesize=lambda w, size: w[:, 0, :3, None, None].expand(-1, 3, size, size)
)
WHITENING = SimpleNamespace(white=lambda w: w)


@pytest.fixture
def tool(monkeypatch):
    """The tool with a person that is random numbers, all in [-1,1]."""
    drawn = SimpleNamespace(draw=lambda kind, random: torch.rand(3, 512, generator=random))
    with loaded("train_encoder") as module:
        monkeypatch.setattr(module, "SEEN", 4)
        monkeypatch.setattr(module, "Styles", lambda generator, whitening: drawn)
        yield module


@pytest.mark.parametrize("pool", [7, 20, 23])
def test_a_pool_of_any_size_is_filled(tool, tmp_path, pool):
    samples = tool.Samples(tmp_path, pool, 2)
    samples.draw(GENERATOR, WHITENING, 0)
    assert samples.done == pool
    assert np.abs(samples.latents).max((1, 2)).min() > 0
    assert samples.pictures.max((1, 2, 3)).min() > 0


def test_drawing_goes_on_where_it_stopped(tool, tmp_path, monkeypatch):
    whole, halved = (tool.Samples(tmp_path / name, 23, 2) for name in ("whole", "halved"))
    whole.draw(GENERATOR, WHITENING, 0)
    calls = []

    def interrupted(w, size):
        calls.append(size)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return GENERATOR.synthesize(w, size)

    with pytest.raises(KeyboardInterrupt):
        halved.draw(SimpleNamespace(live_layers=(0, 2), synthesize=interrupted), WHITENING, 0)
    assert halved.done == 10
    halved.draw(GENERATOR, WHITENING, 0)
    assert halved.done == 23
    assert np.array_equal(halved.latents, whole.latents)
    assert np.array_equal(halved.pictures, whole.pictures)
