"""Smoothing adds no lag, reaches over no cut, and a stream is held back no longer than it must be."""

import numpy as np
import pytest

from reenact.smooth import DELAY_LINE, causal, delay_line, segments, zero_phase


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pulse(length, at):
    return np.eye(length)[at]


# --- Segments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuts", "expected"),
    [
        ((), [(0, 10)]),
        ((4,), [(0, 4), (4, 10)]),
        ((7, 4, 4), [(0, 4), (4, 7), (7, 10)]),
        ((0, 10, 12), [(0, 10)]),
    ],
)
def test_segments_lie_between_cuts(cuts, expected):
    assert [(part.start, part.stop) for part in segments(10, cuts)] == expected


def test_a_clip_of_nothing_has_no_segments():
    assert segments(0, ()) == []


# --- The whole track ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 30])
def test_what_is_constant_stays(length):
    assert zero_phase(np.full((length, 68, 2), 7.5), 3.0) == pytest.approx(np.full((length, 68, 2), 7.5))


def test_a_pulse_is_spread_evenly_about_its_place():
    out = zero_phase(pulse(41, 20), 2.0)
    assert out.argmax() == 20
    assert out == pytest.approx(out[::-1])
    assert out.sum() == pytest.approx(1)
    assert np.sqrt((np.arange(-20, 21) ** 2) @ out) == pytest.approx(2.0, rel=0.01)


def test_even_motion_is_followed_without_lag():
    ramp = np.arange(60.0)
    assert zero_phase(ramp, 3.0)[15:-15] == pytest.approx(ramp[15:-15])


def test_nothing_leaks_over_a_cut():
    values = noise(30, 3)
    other = values.copy()
    other[12:20] += 1000
    together, apart = (zero_phase(v, 2.0, (12, 20)) for v in (values, other))
    assert np.array_equal(together[:12], apart[:12])
    assert np.array_equal(together[20:], apart[20:])
    assert together[12:20] == pytest.approx(zero_phase(values[12:20], 2.0))


def test_coordinates_are_filtered_apart():
    values = noise(30, 68, 2)
    assert zero_phase(values, 2.0)[:, 5, 1] == pytest.approx(zero_phase(values[:, 5, 1], 2.0))


def test_sigma_zero_leaves_all_as_it_is():
    assert np.array_equal(zero_phase(noise(9, 2), 0.0), noise(9, 2))


def test_the_input_is_left_alone():
    values = noise(9, 2).astype(np.float64)
    zero_phase(values, 2.0)
    assert np.array_equal(values, noise(9, 2))


# --- A live source ------------------------------------------------------------------------------


def test_a_causal_filter_answers_each_value_before_the_next_comes():
    source = iter([(i, value, float(i), 0) for i, value in enumerate(noise(5, 4))])
    filtered = causal(source, 2.0)
    passenger, value = next(filtered)
    assert passenger == 0
    assert np.array_equal(value, noise(5, 4)[0])
    next(filtered)
    assert len(list(source)) == 3


def filtered(values, sigma, every=1):
    return np.array(
        [v for _, v in causal(((i, np.float32(v), i, 0) for i, v in enumerate(values) if i % every == 0), sigma)]
    )


def test_a_causal_filter_keeps_what_is_constant_and_approaches_a_step():
    out = filtered([5.0, 5.0, *[9.0] * 40], 2.0)
    assert out[:2] == pytest.approx([5, 5])
    assert (np.diff(out[1:]) >= 0).all()
    assert out[-1] == pytest.approx(9, abs=1e-3)
    assert out.max() <= 9


def test_a_causal_filter_remembers_nothing_across_a_cut():
    items = [(i, np.float32(9 * (i >= 5)), float(i), int(i >= 5)) for i in range(8)]
    assert [float(value) for _, value in causal(items, 3.0)] == [0.0] * 5 + [9.0] * 3


def test_a_causal_filter_lags_in_time_not_in_pictures():
    step = [0.0, *[1.0] * 40]
    assert filtered(step, 2.0, every=4)[1:] == pytest.approx(filtered(step, 2.0)[4::4], abs=1e-6)
    assert filtered(step, 0.0).tolist() == step


# --- The delay line -----------------------------------------------------------------------------


def stream(values, segment=lambda index: 0):
    """(passenger, value, segment), the passenger being the index."""
    return [(i, value, segment(i)) for i, value in enumerate(values)]


def convolved(values, weights=DELAY_LINE):
    """Each value's neighbours times the weights, over the sum of the weights that had a neighbour."""
    reach, length = len(weights) // 2, len(values)
    out = []
    for t in range(length):
        near = range(max(0, t - reach), min(length, t + reach + 1))
        share = np.array([weights[i - t + reach] for i in near])
        out.append(np.tensordot(share / share.sum(), values[list(near)], 1))
    return np.array(out)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 30])
@pytest.mark.parametrize("weights", [DELAY_LINE, (1, 4, 1), (1,), (1, 2, 3, 4, 3, 2, 1)])
def test_it_is_a_convolution_renormalised_at_the_ends(length, weights):
    values = noise(length, 3, 4)
    passengers, smoothed = zip(*delay_line(stream(values), weights), strict=True)
    assert passengers == tuple(range(length))
    assert np.array(smoothed) == pytest.approx(convolved(values, weights), abs=1e-6)
    assert smoothed[0].dtype == np.float32


def test_values_of_another_scene_have_no_weight():
    values = noise(20, 3)
    smoothed = [v for _, v in delay_line(stream(values, segment=lambda i: int(i >= 7) + int(i >= 8)))]
    expected = np.concatenate([convolved(part) for part in np.split(values, [7, 8])])
    assert np.array(smoothed) == pytest.approx(expected, abs=1e-6)


def test_only_two_frames_are_held_back():
    taken = 0

    def source():
        nonlocal taken
        for item in stream(noise(10, 3)):
            taken += 1
            yield item

    when = [(passenger, taken) for passenger, _ in delay_line(source())]
    assert when == [(i, min(i + 3, 10)) for i in range(10)]


def test_an_empty_stream_stays_empty():
    assert list(delay_line([])) == []
