"""Whose VGG-16 the paper's recipe compares with."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reenact import perceptual
from reenact.errors import UsageError, WeightsError
from reenact.weights import WeightStore

CPU = torch.device("cpu")
# Where torchvision's file has the convolutions; between them are ReLUs, and pooling after the last of a block.
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


@pytest.fixture(scope="module")
def state():
    widths = [3, *(width for block in perceptual.VGG_PLAN for width in block)]
    random = torch.Generator().manual_seed(0)
    state = {}
    for place, into, out in zip(PLACES, widths[:-1], widths[1:], strict=True):
        state[f"features.{place}.weight"] = torch.randn(out, into, 3, 3, generator=random) / (9 * into) ** 0.5
        state[f"features.{place}.bias"] = torch.randn(out, generator=random) / 10
    return {**state, "classifier.0.weight": torch.zeros(2, 2)}


@pytest.fixture
def file(state, tmp_path):
    torch.save(state, tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


@pytest.mark.parametrize("conv", [1, 2, 3, 9])
def test_torchvisions_features(state, file, tmp_path, conv):
    """As torchvision documents it: ImageNet's mean and deviation in [0,1], 2x2 max pooling."""
    network, name = perceptual.load_features(str(file), "conv", WeightStore(tmp_path), CPU)
    assert name == f"torchvision's VGG-16 ({file})"
    picture = torch.rand(1, 3, 32, 32)
    x = (picture - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    for number, place in enumerate(PLACES[:conv], 1):
        if number - 1 in (2, 4, 7, 10):
            x = F.max_pool2d(x, 2)
        x = F.relu(F.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1))
    (found,) = network.features(picture * 2 - 1, [conv])
    assert np.allclose(found, x, atol=1e-4)
    assert not any(p.requires_grad for p in network.parameters())


def test_the_paper_takes_torchvisions_where_it_was_fetched(state, tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "load_vgg", lambda *_: "packaged")
    store = WeightStore(tmp_path)
    assert perceptual.load_features("auto", "conv", store, CPU)[0] == "packaged"
    torch.save(state, tmp_path / "vgg16.pth")
    monkeypatch.setattr(WeightStore, "verify", lambda *_: None)
    network, name = perceptual.load_features("auto", "conv", store, CPU)
    assert isinstance(network, perceptual.PlainVgg16)
    assert name == f"torchvision's VGG-16 ({tmp_path / 'vgg16.pth'})"
    assert perceptual.load_features("packaged", "conv", store, CPU)[0] == "packaged"
    assert perceptual.load_features("auto", "lpips", store, CPU)[0] == "packaged"


def test_what_can_not_be_had_or_compared(file):
    with pytest.raises(UsageError, match=r"nothing\.pth: no such file, and no such name; .*auto, packaged, vgg16"):
        perceptual.check_features("nothing.pth", "conv")
    for which in ("vgg16", str(file)):
        with pytest.raises(UsageError, match=f"{re.escape(which)}: .*goes with --preset paper"):
            perceptual.check_features(which, "lpips")


def test_another_file(tmp_path):
    (tmp_path / "page.pth").write_bytes(b"<html>")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for name in ("page.pth", "other.pth"):
        with pytest.raises(WeightsError, match=rf"{name}: not torchvision's VGG-16"):
            perceptual.load_features(str(tmp_path / name), "conv", WeightStore(tmp_path), CPU)
