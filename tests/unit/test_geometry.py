"""Matrices made from a known turn, scale and shift, found again."""

import numpy as np
import pytest
from faces import similarity

from reenact.geometry import apply, compose, fit_similarity, inverse, scale_of

MATRICES = [similarity(0, 1, (0, 0)), similarity(37, 2.5, (10, -4)), similarity(-160, 0.3, (-1000, 2000))]
SHEAR = np.array([[2.0, 1.0, 3.0], [0.0, 0.5, -1.0]])


def cloud(seed=0, count=30):
    return np.random.default_rng(seed).normal(size=(count, 2)) * [3, 1] + [5, -2]


def test_apply_turns_clockwise_then_shifts():
    assert apply(similarity(90, 2, (10, 20)), np.array([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(
        np.array([[10, 22], [8, 20]])
    )


def test_apply_takes_whole_clips():
    clip = np.stack([cloud(0), cloud(1)])
    assert np.array_equal(apply(SHEAR, clip)[1], apply(SHEAR, clip[1]))


def test_float32_points_are_moved_in_double_precision():
    far = similarity(0, 1, (1e6 + 0.125, 0))
    assert apply(far, np.zeros((1, 2), np.float32))[0, 0] == 1e6 + 0.125


def test_compose_does_the_inner_first():
    shift, turn = similarity(0, 1, (1, 0)), similarity(90, 1, (0, 0))
    origin = np.zeros((1, 2))
    assert apply(compose(turn, shift), origin) == pytest.approx(np.array([[0, 1]]))
    assert apply(compose(shift, turn), origin) == pytest.approx(np.array([[1, 0]]))


@pytest.mark.parametrize("matrix", [*MATRICES, SHEAR])
def test_inverse_brings_points_back(matrix):
    assert apply(inverse(matrix), apply(matrix, cloud())) == pytest.approx(cloud())


@pytest.mark.parametrize("matrix", MATRICES)
def test_fit_recovers_the_similarity(matrix):
    assert fit_similarity(cloud(), apply(matrix, cloud())) == pytest.approx(matrix, abs=1e-9)


def test_fit_never_mirrors():
    source = cloud()
    fitted = fit_similarity(source, source * [-1, 1])
    assert np.linalg.det(fitted[:, :2]) > 0


def test_fit_is_the_least_squares_solution():
    source, target = cloud(0), cloud(1)
    # a x - b y + e and b x + a y + f, solved for a, b, e, f
    x, y, one, zero = source[:, 0], source[:, 1], np.ones(30), np.zeros(30)
    system = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, e, f = np.linalg.lstsq(system, target.T.ravel(), rcond=None)[0]
    assert fit_similarity(source, target) == pytest.approx(np.array([[a, -b, e], [b, a, f]]))


def test_points_without_weight_do_not_count():
    source, target = cloud(), apply(MATRICES[1], cloud())
    target[:5] += 100
    weights = np.ones(30)
    weights[:5] = 0
    assert fit_similarity(source, target, weights) == pytest.approx(MATRICES[1])


def test_a_weight_of_two_is_the_point_twice():
    source, target = cloud(0), cloud(1)
    twice = np.concatenate([np.arange(30), np.arange(10)])
    weights = np.ones(30)
    weights[:10] = 2
    assert fit_similarity(source, target, weights) == pytest.approx(fit_similarity(source[twice], target[twice]))


@pytest.mark.parametrize("matrix", [similarity(75, 2.5, (3, 4)), similarity(75, 2.5, (3, 4)) * [[1], [-1]]])
def test_scale_is_that_of_lengths_even_when_mirrored(matrix):
    assert scale_of(matrix) == pytest.approx(2.5)
