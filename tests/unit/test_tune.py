"""Pivotal tuning, of a small generator of random numbers, towards a picture that it does not draw."""

from dataclasses import replace

import pytest
import stylegans
import torch
from torch import nn

from reenact.perceptual import Network
from reenact.portrait import Portrait
from reenact.tune import TuneOptions, tune, with_weights

SIZE = 64
QUICK = TuneOptions(steps=12, map_steps=0, seen=32, hold_seen=32, edits=2, rate=0.02)  # weights alone ...
MAPPED = replace(QUICK, steps=0, map_steps=12)  # ... and maps of noise alone


class Eyes(Network):
    """Two random convolutions for VGG's."""

    compared = (1, 2)

    def __init__(self):
        torch.manual_seed(0)
        super().__init__([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, padding=1)])
        for head in self.heads:
            head.data.fill_(1)
        self.requires_grad_(False)

    def _step(self, x, number):
        return self.convs[number - 1](x).relu()


@pytest.fixture(scope="module")
def generator():
    return stylegans.build(stylegans.random_checkpoint("stylegan2", SIZE, 8))


@pytest.fixture(scope="module")
def pivot(generator):
    return person(generator, 1)


@pytest.fixture(scope="module")
def photo(generator, pivot):
    """What the pivot draws, redder, with a dark square."""
    picture = drawn(generator, pivot) + torch.tensor([0.3, 0.0, -0.1])[:, None, None]
    picture[..., 20:40, 24:36] -= 0.5
    return picture


@pytest.fixture(scope="module")
def tuning(generator, photo, pivot):
    return tune(generator, Eyes(), photo, pivot, SIZE, QUICK)


def person(generator, seed):
    with torch.no_grad():
        w = generator.map(torch.randn(1, 512, generator=torch.Generator().manual_seed(seed)))
    return torch.lerp(generator.mean_latent, w, 0.5)


def other_expression(generator, pivot, seed=5):
    """The pivot with half of another person's expression."""
    slots = list(generator.expression_layers)
    w = pivot.clone()
    w[slots] = torch.lerp(pivot, person(generator, seed), 0.5)[slots]
    return w


def drawn(generator, w):
    with torch.no_grad():
        return generator.synthesize(w[None], SIZE)


def distance(a, b):
    return (a - b).square().mean().item()


def test_the_pivot_draws_the_photo_and_the_generator_is_left_alone(generator, photo, pivot, tuning):
    before = drawn(generator, pivot)
    tuned = with_weights(generator, tuning.weights)
    assert distance(drawn(tuned, pivot), photo) < 0.6 * distance(before, photo)
    assert tuning.losses[-1] < 0.6 * tuning.losses[0]
    assert not tuning.ran_away
    assert torch.equal(drawn(generator, pivot), before)
    assert not any(weight.requires_grad for g in (generator, tuned) for weight in g.weights().values())


def test_an_expression_stays_the_change_that_it_was(generator, photo, pivot):
    """Held, the difference that an expression makes is nearer to what it was than when it is not."""

    def change(generator):
        return drawn(generator, other_expression(generator, pivot)) - drawn(generator, pivot)

    free, held = (
        with_weights(generator, tune(generator, Eyes(), photo, pivot, SIZE, replace(QUICK, hold=hold)).weights)
        for hold in (0.0, 4.0)
    )
    assert distance(change(held), change(generator)) < 0.9 * distance(change(free), change(generator))


def test_the_same_again(generator, photo, pivot, tuning):
    again = tune(generator, Eyes(), photo, pivot, SIZE, QUICK)
    assert again.losses == tuning.losses
    assert all(torch.equal(again.weights[name], weight) for name, weight in tuning.weights.items())


def test_what_counts_less_is_brought_less_near(generator, photo, pivot):
    inside = torch.zeros(1, 1, SIZE, SIZE)
    inside[..., : SIZE // 2] = 1
    options = replace(QUICK, surroundings=0.0, pixels=100.0, hold=0.0)
    tuned = with_weights(generator, tune(generator, Eyes(), photo, pivot, SIZE, options, inside).weights)
    even = with_weights(generator, tune(generator, Eyes(), photo, pivot, SIZE, options).weights)
    left, right = ([distance(*(x[..., half] for x in (drawn(g, pivot), photo))) for g in (tuned, even)]
                   for half in (slice(SIZE // 2), slice(SIZE // 2, None)))  # fmt: skip
    assert left[0] < left[1]
    assert right[0] > right[1]


def test_a_search_that_runs_away_changes_nothing(generator, photo, pivot):
    bad = torch.full_like(photo, float("nan"))
    told = []
    tuning = tune(generator, Eyes(), bad, pivot, SIZE, QUICK, on_step=lambda step, loss: told.append(step))
    assert tuning.ran_away
    assert not tuning.weights
    assert not told
    assert torch.equal(drawn(with_weights(generator, tuning.weights), pivot), drawn(generator, pivot))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("spoilt", ["the loss", "its gradient"])
def test_an_edit_that_runs_away_changes_nothing(generator, photo, pivot, monkeypatch, spoilt, steps):
    """Even at the last step, whose weights no loss is measured with."""

    def missed(edit, network, drawn, options):
        nothing = drawn.sum() * 0
        return nothing * float("nan") if spoilt == "the loss" else nothing.sqrt()  # whose slope at 0 is infinite

    monkeypatch.setattr("reenact.tune._Edit.missed", missed)
    tuning = tune(generator, Eyes(), photo, pivot, SIZE, replace(QUICK, steps=steps))
    assert tuning.ran_away
    assert not tuning.weights


def test_maps_that_run_away_change_nothing(generator, photo, pivot):
    """Not even the weights, which were found by then."""
    tuning = tune(generator, Eyes(), photo, pivot, SIZE, replace(QUICK, map_steps=2, map_rate=float("inf")))
    assert tuning.ran_away
    assert not tuning.weights
    assert len(tuning.losses) > QUICK.steps


def test_no_steps_change_nothing_and_do_not_run_away(generator, photo, pivot):
    tuning = tune(generator, Eyes(), photo, pivot, SIZE, replace(QUICK, steps=0))
    assert (dict(tuning.weights), tuning.losses, tuning.ran_away) == ({}, (), False)


def test_weights_first_then_the_maps_of_noise(generator, photo, pivot, tuning):
    told = []
    options = replace(QUICK, map_steps=12)
    both = tune(generator, Eyes(), photo, pivot, SIZE, options, on_step=lambda step, loss: told.append(step))
    maps = generator.noise_maps()
    assert told == list(range(1, 25)) == list(range(1, options.all_steps(generator) + 1))
    assert not tuning.weights.keys() & maps.keys()
    assert both.weights.keys() & maps.keys()
    assert all(torch.equal(both.weights[name], weight) for name, weight in tuning.weights.items())
    near = [distance(drawn(with_weights(generator, each.weights), pivot), photo) for each in (tuning, both)]
    assert near[1] < 0.7 * near[0]


def test_a_map_of_little_strength_is_moved_as_far_as_it_shows(photo, pivot):
    """What a map adds to features moves alike, however weak the network's noise is."""
    moved = []
    for strength in (0.5, 0.05):
        checkpoint = stylegans.random_checkpoint("stylegan2", SIZE, 8)
        for name, tensor in checkpoint.tensors.items():
            if name.endswith("noise_strength"):
                tensor.fill_(strength)
        generator = stylegans.build(checkpoint)
        before = generator.weights()
        found = tune(generator, Eyes(), photo, pivot, SIZE, replace(MAPPED, map_steps=1)).weights
        moved.append({name: ((found[name] - before[name]) * strength).abs().max() for name in found})
    strong, weak = moved
    assert strong.keys() == weak.keys()
    assert all(torch.isclose(strong[name], weak[name], rtol=1e-3) for name in strong)


def test_without_noise_there_are_no_maps_to_move(photo, pivot):
    generator = stylegans.build(stylegans.random_checkpoint("stylegan2", SIZE, 8))
    generator.noise = "none"
    assert not generator.noise_maps()
    options = replace(QUICK, steps=2, map_steps=5)
    tuning = tune(generator, Eyes(), photo, pivot, SIZE, options)
    assert len(tuning.losses) == options.all_steps(generator) == 2
    assert tuning.weights
    assert not tuning.ran_away


# --- Drawing with it ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mapped(generator, photo, pivot):
    return tune(generator, Eyes(), photo, pivot, SIZE, MAPPED).weights


def test_a_portrait_at_rest_is_the_tuned_generators(generator, mapped, pivot):
    portrait = Portrait(generator, mapped, pivot)
    shown = portrait.synthesize(pivot[None], SIZE)
    assert torch.allclose(shown, drawn(with_weights(generator, mapped), pivot), atol=1e-4)


def test_a_portrait_forgets_its_maps_where_an_expression_changes_it(generator, mapped, pivot):
    """And remembers them where not: the pictures of the same latent with the maps and without frame it."""
    portrait, tuned = Portrait(generator, mapped, pivot), with_weights(generator, mapped)
    before, other = drawn(generator, pivot), person(generator, 7)
    slightly = torch.lerp(pivot, other, 0.01)
    for w, like, unlike in ((other, generator, tuned), (slightly, tuned, generator)):
        shown = portrait.synthesize(w[None], SIZE)
        assert distance(shown, drawn(like, w)) < 0.2 * distance(shown, drawn(unlike, w))
    assert torch.equal(drawn(generator, pivot), before)
    assert torch.allclose(portrait.synthesize(pivot[None], SIZE), drawn(tuned, pivot), atol=1e-4)  # again


def test_a_portrait_of_weights_alone_is_the_tuned_generator(generator, tuning, pivot):
    shown = Portrait(generator, tuning.weights, pivot).synthesize(pivot[None], SIZE)
    assert torch.equal(shown, drawn(with_weights(generator, tuning.weights), pivot))


def test_half_the_bits_are_tuned_in_whole_steps(photo, pivot, generator):
    """Steps much smaller than what half the bits can hold add up."""
    quick = stylegans.build(generator.checkpoint, torch.bfloat16)
    options = replace(QUICK, rate=0.0015, steps=24, warm_up=0, decay=0.1, hold=0.0)
    tuning = tune(quick, Eyes(), photo, pivot, SIZE, options)
    assert all(weight.dtype == torch.float32 for weight in tuning.weights.values())
    before, after = (drawn(g, pivot) for g in (quick, with_weights(quick, tuning.weights)))
    assert distance(after, photo) < 0.9 * distance(before, photo)
