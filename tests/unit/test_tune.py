"""Pivotal tuning, of a small generator of random numbers, towards a picture that it does not draw."""

from dataclasses import replace

import pytest
import stylegans
import torch
from torch import nn

from reenact.perceptual import Network
from reenact.tune import TuneOptions, tune, with_weights

SIZE = 64
QUICK = TuneOptions(steps=12, seen=32, hold_seen=32, edits=2, rate=0.02)


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


def test_no_steps_change_nothing_and_do_not_run_away(generator, photo, pivot):
    tuning = tune(generator, Eyes(), photo, pivot, SIZE, replace(QUICK, steps=0))
    assert (dict(tuning.weights), tuning.losses, tuning.ran_away) == ({}, (), False)


def test_maps_of_noise_go_farther_than_other_weights(generator, photo, pivot, tuning):
    before = generator.weights()
    maps = {n for n, w in before.items() if n.endswith("noise.constant") and w.shape[-1] == SIZE}
    moved = {n: (w - before[n]).abs().mean() / before[n].square().mean().sqrt() for n, w in tuning.weights.items()}
    assert maps
    assert min(moved[name] for name in maps) > 5 * max(moved[name] for name in moved.keys() - maps)


def test_half_the_bits_are_tuned_in_whole_steps(photo, pivot, generator):
    """Steps much smaller than what half the bits can hold add up."""
    quick = stylegans.build(generator.checkpoint, torch.bfloat16)
    options = replace(QUICK, rate=0.0015, steps=24, warm_up=0, decay=0.1, hold=0.0)
    tuning = tune(quick, Eyes(), photo, pivot, SIZE, options)
    assert all(weight.dtype == torch.float32 for weight in tuning.weights.values())
    before, after = (drawn(g, pivot) for g in (quick, with_weights(quick, tuning.weights)))
    assert distance(after, photo) < 0.9 * distance(before, photo)
