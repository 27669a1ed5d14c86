"""The encoder from pictures to latents, as a file and as a function."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from reenact.encoder import GRID, Encoder
from reenact.invert import Whitening

LIVE = (0, 2, 3)


def made():
    torch.manual_seed(0)
    made = Encoder(len(LIVE))
    made.centre.copy_(torch.randn(3 * GRID**2) * 0.1)
    made.spread.copy_(0.2 + torch.rand(3 * GRID**2) * 0.2)
    return made.requires_grad_(False)


@pytest.fixture
def generator():
    root = torch.randn(512, 512, generator=torch.Generator().manual_seed(1)) / 20
    mean = torch.full((5, 512), 0.5)
    return SimpleNamespace(mean_latent=mean, covariance=root @ root.T + torch.eye(512), live_layers=LIVE)


def pictures(count, size):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("size", [64, 128, 1024])
def test_every_live_slot_is_told_from_pictures_of_any_size(size):
    assert made()(pictures(2, size)).shape == (2, len(LIVE), 512)


def test_the_same_picture_gives_the_same_latent_alone_and_among_others():
    two = pictures(2, 128)
    together = made()(two)
    assert torch.equal(together, made()(two))
    assert made()(two[1:])[0] == pytest.approx(together[1], abs=1e-5)


def test_the_size_of_a_picture_does_not_matter():
    small = pictures(1, 64)
    large = torch.nn.functional.interpolate(small, scale_factor=4)
    assert made()(large) == pytest.approx(made()(small), abs=1e-4)


def test_slots_that_change_nothing_are_the_means(generator):
    whitening, picture = Whitening(generator), pictures(1, 64)
    latent = made().latent(generator, whitening, picture)
    assert latent.shape == (5, 512)
    assert latent[[1, 4]] == pytest.approx(generator.mean_latent[[1, 4]])
    assert whitening.white(latent[list(LIVE)]) == pytest.approx(made()(picture)[0], abs=1e-3)
    assert (generator.mean_latent == 0.5).all()


def test_a_file_gives_the_same_encoder(tmp_path):
    path = tmp_path / "e.safetensors"
    save_file({name: value.contiguous() for name, value in made().state_dict().items()}, path)
    assert torch.equal(Encoder.load(path)(pictures(1, 64)), made()(pictures(1, 64)))
