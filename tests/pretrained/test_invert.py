"""Inversion finds again what the generator made itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reenact.generators import mobile
from reenact.invert import PAPER, InvertOptions, Whitening, distance_to, invert
from reenact.perceptual import load_vgg

pytestmark = pytest.mark.pretrained

CPU = torch.device("cpu")
SIZE = 128
RECIPE = InvertOptions(steps=30, rate=0.08, sizes=((SIZE, 1.0),), prior=0.0)
BRIEF = replace(RECIPE, steps=3, warm_up=0, decay=0.0)


@pytest.fixture(scope="module")
def generator(store):
    return mobile.create(store, CPU)


@pytest.fixture(scope="module")
def network(store):
    return load_vgg(store, CPU)


@pytest.fixture(scope="module")
def truth(generator):
    """A face of W, [L,512], not far from the mean."""
    with torch.no_grad():
        w = generator.map(torch.randn(1, 512, generator=torch.Generator().manual_seed(1)))
    return torch.lerp(generator.mean_latent, w, 0.7)


@pytest.fixture(scope="module")
def picture(generator, truth):
    return drawn(generator, truth)


def drawn(generator, w, size=SIZE):
    with torch.no_grad():
        return generator.synthesize(torch.as_tensor(w)[None], size)


def error(generator, w, picture):
    return (drawn(generator, w) - picture).square().mean().item()


def noise(like, seed=0):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


# --- Finding ------------------------------------------------------------------------------------


def test_a_generated_face_is_found_from_the_mean(generator, network, picture):
    found = invert(generator, network, picture, RECIPE)
    assert min(found.losses) < found.losses[0] / 5
    assert error(generator, found.latent.w, picture) < error(generator, generator.mean_latent, picture) / 5
    assert found.latent.w.shape == (generator.num_layers, 512)
    assert found.latent.w.dtype == np.float32
    assert found.latent.generator == generator.name


def test_a_start_at_the_truth_stays_there(generator, network, picture, truth):
    found = invert(generator, network, picture, BRIEF, start=truth)
    assert found.losses[0] == pytest.approx(0, abs=1e-6)
    assert found.latent.w == pytest.approx(truth.numpy(), abs=1e-5)


@pytest.mark.parametrize("whitened", [False, True])
def test_a_start_nearby_comes_nearer(generator, network, picture, truth, whitened):
    start = truth + 0.2 * noise(truth)
    found = invert(generator, network, picture, replace(RECIPE, steps=8, rate=0.03, whitened=whitened), start=start)
    assert error(generator, found.latent.w, picture) < error(generator, start, picture) * 0.8


@pytest.mark.parametrize("whitened", [False, True])
def test_dead_slots_and_the_start_itself_are_left_alone(generator, network, picture, truth, whitened):
    start = truth + noise(truth)
    given = start.clone()
    found = invert(generator, network, picture, replace(BRIEF, whitened=whitened), start=start)
    live = list(generator.live_layers)
    dead = [slot for slot in range(generator.num_layers) if slot not in live]
    assert np.array_equal(found.latent.w[dead], given[dead].numpy())
    assert (found.latent.w[live] != given[live].numpy()).any(1).all()
    assert torch.equal(start, given)


def test_the_same_twice_is_the_same(generator, network, picture):
    first, second = (invert(generator, network, picture, BRIEF) for _ in range(2))
    assert first.losses == second.losses
    assert np.array_equal(first.latent.w, second.latent.w)


def test_where_there_is_no_weight_the_picture_does_not_matter(generator, network, picture):
    spoilt = noise(picture).clamp(-1, 1)
    spoilt[..., 12:-12, 12:-12] = picture[..., 12:-12, 12:-12]
    weight = torch.zeros(1, 1, SIZE, SIZE)
    weight[..., 52:-52, 52:-52] = 1  # further from what is spoilt than the seventh convolution sees
    recipe = replace(BRIEF, steps=2, optimiser="sgd", rate=1.0, convs=(2, 4, 7))

    def moved(weight):
        clean, other = (invert(generator, network, p, recipe, weight=weight) for p in (picture, spoilt))
        assert (clean.latent.w != generator.mean_latent.numpy()).any()
        return np.abs(clean.latent.w - other.latent.w).max()

    assert moved(weight) < 1e-5
    assert moved(None) > 1e-3


def test_a_prior_draws_w_to_the_mean(generator, network, picture, truth):
    """It would stay where it starts, did only the picture count."""
    found = invert(generator, network, picture, replace(BRIEF, whitened=True, prior=10.0), start=truth)

    def offset(w):
        return Whitening(generator).white(w)[list(generator.live_layers)].norm()

    assert offset(torch.from_numpy(found.latent.w)) < 0.95 * offset(truth)


def test_another_distance_of_the_drawn_face_counts_as_much_as_it_is_told_to(generator, network, picture, truth):
    asked = []

    def darkness(drawn):
        asked.append(tuple(drawn.shape))
        return drawn.mean() + 1

    def light(shape, weight):
        recipe = replace(BRIEF, shape=weight)
        found = invert(generator, network, picture, recipe, start=truth, shape=shape)
        return drawn(generator, found.latent.w).mean().item(), found.losses[0]

    (plain, nothing), (none, _), (dark, much) = light(None, 50.0), light(darkness, 0.0), light(darkness, 50.0)
    assert none == pytest.approx(plain, abs=1e-6)
    assert dark < plain - 0.01
    assert much == pytest.approx(nothing + 50 * (picture.mean().item() + 1), rel=1e-3)
    assert set(asked) == {(1, 3, SIZE, SIZE)}


# --- The way there ------------------------------------------------------------------------------


def test_each_step_is_told_once(generator, network, picture):
    told = []
    found = invert(generator, network, picture, BRIEF, on_step=lambda *step: told.append(step))
    assert [(step, loss) for step, loss, _ in told] == list(enumerate(found.losses, 1))
    best = min(told, key=lambda step: step[1])[2]
    assert np.array_equal(found.latent.w, best.numpy())
    assert found.steps == 3


def test_small_pictures_come_first(generator, network, picture):
    sizes = []

    class Watched:
        def __getattr__(self, name):
            return getattr(generator, name)

        def synthesize(self, w, size):
            sizes.append(size)
            return generator.synthesize(w, size)

    large = torch.nn.functional.interpolate(picture, size=256)
    recipe = replace(BRIEF, steps=3, sizes=((100, 0.67), (250, 0.33)))  # the nearest that it makes
    invert(Watched(), network, large, recipe)
    assert sizes == [128, 128, 256]


def test_it_ends_when_it_no_longer_improves(generator, network, picture):
    """With a rate of nothing no step is better than the first: of each stage, that and the three it waits are done."""
    recipe = replace(RECIPE, rate=0.0, patience=3, sizes=((SIZE, 0.5), (SIZE, 0.5)))
    assert invert(generator, network, picture, recipe).steps == 8


def test_the_papers_recipe_descends_from_where_a_face_is(generator, network, picture):
    recipe = replace(PAPER, steps=3, sizes=((SIZE, 1.0),))
    found = invert(generator, network, picture, recipe)
    origin = distance_to(network, picture, recipe)(drawn(generator, generator.mean_latent))
    assert found.losses[0] == pytest.approx(origin.item(), rel=1e-4)
    assert found.losses[0] > found.losses[1] > found.losses[2]


# --- Whitening ----------------------------------------------------------------------------------


def test_white_coordinates_of_w_have_no_mean_and_unit_spread(generator):
    with torch.no_grad():
        w = generator.map(torch.randn(4000, 512, generator=torch.Generator().manual_seed(0)))
    white = Whitening(generator).white(w)
    assert white.mean(0).abs().max() < 0.15
    assert (white.T.cov() - torch.eye(512)).abs().max() < 0.25


def test_colouring_undoes_whitening(generator, truth):
    whitening = Whitening(generator)
    assert whitening.colour(whitening.white(truth)) == pytest.approx(truth, abs=1e-4)
    slots = whitening.white(truth)[[2, 4]]
    assert whitening.colour(slots) == pytest.approx(truth[[2, 4]], abs=1e-4)


def test_a_search_that_runs_away_ends_there_with_the_best_before_and_says_so(generator, network, picture):
    far = replace(PAPER, steps=50, rate=1e3, sizes=((SIZE, 1.0),))
    found = invert(generator, network, picture, far)
    assert found.ran_away
    assert found.steps < 50
    assert np.isfinite(found.latent.w).all()
    assert not invert(generator, network, picture, BRIEF).ran_away
