"""The perceptual distance is ST-LPIPS, and behaves like a distance."""

from types import SimpleNamespace

import pytest
import torch

from reenact.errors import WeightsError
from reenact.perceptual import LPIPS_CONVS, load_alex, load_vgg, lpips_distance, lpips_features

pytestmark = pytest.mark.pretrained

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network(store):
    return load_vgg(store, CPU)


def distance(network, a, b, weight=None, convs=None):
    with torch.inference_mode():
        return lpips_distance(lpips_features(network, a, convs), lpips_features(network, b, convs), weight)


def noise():
    """A random picture, and the same with more noise on it."""
    torch.manual_seed(0)
    a = torch.rand(1, 3, 256, 256) * 2 - 1
    return a, a + 0.2 * torch.randn_like(a)


def waves(size=256):
    """Two smooth pictures."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    a = torch.stack([torch.sin(x / 9), torch.cos(y / 13), torch.sin((x + y) / 17)])
    b = torch.stack([torch.sin(x / 9 + 0.5), torch.cos(y / 13), torch.sin((x - y) / 17)])
    return a[None], b[None]


# Recorded from the authors' own package, stlpips_pytorch 0.0.2: LPIPS(net="vgg", variant="shift_tolerant").
@pytest.mark.parametrize(("pair", "expected"), [(noise, 0.00666729174554348), (waves, 0.42927855253219604)])
def test_it_is_st_lpips(network, pair, expected):
    assert distance(network, *pair()).item() == pytest.approx(expected, abs=1e-5)


# The same with net="alex".
@pytest.mark.parametrize(("pair", "expected"), [(noise, 0.0029212143272161484), (waves, 0.32241711020469666)])
def test_it_is_st_lpips_by_alexnet_too(store, pair, expected):
    assert distance(load_alex(store, CPU), *pair()).item() == pytest.approx(expected, abs=1e-5)


def test_a_picture_is_no_distance_from_itself(network):
    a, _ = waves(64)
    assert distance(network, a, a).item() == 0


def test_there_and_back_are_as_far(network):
    a, b = waves(64)
    assert distance(network, a, b).item() == pytest.approx(distance(network, b, a).item())


def test_it_grows_with_the_noise(network):
    a, _ = waves(64)
    grain = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noisy = torch.cat([a + amount * grain for amount in (0.0, 0.05, 0.1, 0.2, 0.4)])
    assert (distance(network, a.repeat(5, 1, 1, 1), noisy).diff() > 0).all()


def test_pictures_of_a_batch_are_compared_apart(network):
    a, b = waves(64)
    both = distance(network, torch.cat([a, b]), torch.cat([b, b]))
    assert both.tolist() == pytest.approx([distance(network, a, b).item(), 0])


def test_an_even_weight_changes_nothing(network):
    a, b = waves(64)
    weight = torch.full((1, 1, 64, 64), 0.3)
    assert distance(network, a, b, weight).item() == pytest.approx(distance(network, a, b).item(), rel=1e-4)


def test_what_has_no_weight_does_not_count(network):
    a, b = waves(128)
    spoilt = b.clone()
    spoilt[..., :32] = 0
    right = torch.zeros(1, 1, 128, 128)
    right[..., 96:] = 1  # further from what is spoilt than the seventh convolution sees

    def change(weight):
        return abs(distance(network, a, spoilt, weight, (2, 4, 7)) - distance(network, a, b, weight, (2, 4, 7))).item()

    assert change(right) < 1e-6
    assert change(1 - right) > 1e-3


def test_half_the_bits_give_nearly_the_same(store, network):
    half = load_vgg(store, CPU, torch.bfloat16)
    assert distance(half, *waves(64)).item() == pytest.approx(distance(network, *waves(64)).item(), rel=0.05)


def test_a_gradient_reaches_the_picture_and_not_the_network(network):
    a, b = waves(64)
    a.requires_grad_()
    lpips_distance(lpips_features(network, a), lpips_features(network, b)).sum().backward()
    assert a.grad.isfinite().all()
    assert a.grad.abs().max() > 0
    assert all(p.grad is None for p in network.parameters())


# --- Features -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("convs", "channels"),
    [((9,), [512]), ((2,), [64]), ((2, 4, 7, 10), [64, 128, 256, 512]), (LPIPS_CONVS, [64, 128, 256, 512, 512])],
)
def test_convolutions_are_counted_from_one(network, convs, channels):
    a, _ = waves(64)
    found = network.features(a, convs)
    assert [x.shape[1] for x in found] == channels
    assert all((x >= 0).all() for x in found)


def test_the_first_convolution_is_what_it_says(network):
    """Of a plain grey picture, away from the edge, each channel is one number that can be worked out by hand."""
    (found,) = network.features(torch.full((1, 3, 16, 16), 0.25), (1,))
    grey = (0.25 - network.shift.flatten()) / network.scale.flatten()
    conv = network.convs[0]
    expected = (conv.weight.sum((2, 3)) @ grey + conv.bias).relu()
    assert found[0, :, 8, 8] == pytest.approx(expected, abs=1e-5)


# --- Files --------------------------------------------------------------------------------------


def test_another_networks_file_is_refused_by_its_name(tmp_path):
    torch.save({"net.slice1.0.weight": torch.zeros(3)}, tmp_path / "vgg.pth")
    with pytest.raises(WeightsError, match=r"vgg\.pth: not the ST-LPIPS file"):
        load_vgg(SimpleNamespace(path=lambda name: tmp_path / "vgg.pth"), CPU)


def test_one_network_does_not_take_the_others_weights(store):
    with pytest.raises(WeightsError, match=r"stlpips-vgg\.pth: not the ST-LPIPS file"):
        load_alex(SimpleNamespace(path=lambda name: store.path("stlpips-vgg.pth")), CPU)


def test_a_file_that_is_no_network_is_refused_by_its_name(tmp_path):
    (tmp_path / "vgg.pth").write_text("<html>quota exceeded</html>")
    with pytest.raises(WeightsError, match=r"vgg\.pth: not the ST-LPIPS file"):
        load_vgg(SimpleNamespace(path=lambda name: tmp_path / "vgg.pth"), CPU)
