"""Which slots `--layers` means, and what a splice makes of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from reenact.errors import UsageError
from reenact.fuse import from_driver, parse_layers, parse_regions, splice

TOY = SimpleNamespace(
    name="toy", num_layers=10, live_layers=(0, 1, 2, 4, 5, 7, 8), paper_layers=(2, 4), expression_layers=(1, 2, 4, 5)
)


# --- Slots --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("4", (4,)),
        ("0,8", (0, 8)),
        ("5, 2 ,4", (2, 4, 5)),
        ("4-5", (4, 5)),
        ("7 - 8,1", (1, 7, 8)),
        ("2,2,1-2", (1, 2)),
        ("4-4", (4,)),
        ("paper", (2, 4)),
        ("expression", (1, 2, 4, 5)),
    ],
)
def test_lists_ranges_and_presets(text, slots):
    assert parse_layers(text, TOY) == slots


def test_a_range_steps_over_dead_slots():
    assert parse_layers("1-5", TOY) == (1, 2, 4, 5)


@pytest.mark.parametrize("text", ["", ",", "2,,4", "two", "-1", "2-", "2-4-5", "1.5", "2;4", "papers", "5-4"])
def test_bad_text_is_refused_with_the_text(text):
    with pytest.raises(UsageError) as error:
        parse_layers(text, TOY)
    assert repr(text) in str(error.value)


def test_bad_text_is_told_the_presets():
    with pytest.raises(UsageError, match="paper, expression"):
        parse_layers("mouth", TOY)


@pytest.mark.parametrize("text", ["10", "8-10", "2,99"])
def test_slots_that_are_not_there_are_refused_with_those_that_are(text):
    with pytest.raises(UsageError, match="toy; it has 0 to 9"):
        parse_layers(text, TOY)


@pytest.mark.parametrize("text", ["3", "3,6,9"])
def test_slots_that_all_change_nothing_are_refused_with_the_live_ones(text):
    with pytest.raises(UsageError, match="0, 1, 2, 4, 5, 7, 8"):
        parse_layers(text, TOY)


# Where each generator's convolutions are, as its own file says: by resolution, from 4x4.
PLACES = {
    "stylegan1": [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)],
    "stylegan2": [(0,), (1, 2), (3, 4), (5, 6), (7, 8)],
    "mobile": [(0,), (1, 2), (4, 5), (7, 8), (10, 11)],
}


def generator(name):
    by_side = {4 << n: slots for n, slots in enumerate(PLACES[name])}
    live = tuple(slot for slots in PLACES[name] for slot in slots)
    return SimpleNamespace(
        name=name, num_layers=12, live_layers=live, paper_layers=(), expression_layers=(), sizes=(64,),
        layers_at=by_side.__getitem__,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "one", "two", "mobile"),
    [
        ("8x8", (2, 3), (1, 2), (1, 2)),
        ("8x8,32x32", (2, 3, 6, 7), (1, 2, 5, 6), (1, 2, 7, 8)),
        ("p4,p5", (3, 4), (2, 3), (2, 4)),
        ("p1", (0,), (0,), (0,)),
        ("p2,p3", (1, 2), (0, 1), (0, 1)),
        ("p10", (9,), (8,), (11,)),
        ("p3, 16x16,0", (0, 2, 4, 5), (0, 1, 3, 4), (0, 1, 4, 5)),
    ],
)
def test_resolutions_and_the_papers_numbers(text, one, two, mobile):
    for name, slots in {"stylegan1": one, "stylegan2": two, "mobile": mobile}.items():
        assert parse_layers(text, generator(name)) == slots


@pytest.mark.parametrize("text", ["128x128", "5x5", "p11", "p99", "0x0"])
def test_resolutions_and_numbers_that_are_not_there(text):
    with pytest.raises(UsageError, match="is no slot of stylegan1; it has 0 to 11"):
        parse_layers(text, generator("stylegan1"))


@pytest.mark.parametrize("text", ["8x16", "8x", "p", "p0", "p-1", "4p"])
def test_what_is_no_resolution_and_no_number(text):
    with pytest.raises(UsageError, match="write 2,4,7-9 or 8x8,16x16 or p4,p5 or one of: paper, expression, auto"):
        parse_layers(text, generator("stylegan1"))


# --- Splicing -----------------------------------------------------------------------------------


def latent(seed):
    return np.random.default_rng(seed).normal(size=(10, 512)).astype(np.float32)


TARGET, DRIVER, ANCHOR = latent(0), latent(1), latent(2)
CHOSEN = from_driver((2, 4), 10)


def test_the_chosen_slots_are_marked():
    assert CHOSEN.ravel().tolist() == [0, 0, 1, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("anchor", [None, ANCHOR])
def test_other_slots_are_the_targets(anchor):
    fused = splice(TARGET, DRIVER, CHOSEN, anchor, 1.7)
    rest = [0, 1, 3, *range(5, 10)]
    assert np.array_equal(fused[rest], TARGET[rest])
    assert fused.dtype == np.float32


def test_absolute_takes_the_drivers_slots():
    assert splice(TARGET, DRIVER, CHOSEN)[[2, 4]] == pytest.approx(DRIVER[[2, 4]], abs=1e-6)


def test_relative_adds_the_drivers_change():
    expected = TARGET + DRIVER - ANCHOR
    assert splice(TARGET, DRIVER, CHOSEN, ANCHOR)[[2, 4]] == pytest.approx(expected[[2, 4]], abs=1e-6)


def test_a_driver_at_its_anchor_leaves_the_target_exactly():
    assert np.array_equal(splice(TARGET, DRIVER, CHOSEN, DRIVER, 1.3), TARGET)


@pytest.mark.parametrize("anchor", [None, ANCHOR])
def test_no_strength_leaves_the_target_exactly(anchor):
    assert np.array_equal(splice(TARGET, DRIVER, CHOSEN, anchor, 0.0), TARGET)


@pytest.mark.parametrize("anchor", [None, ANCHOR])
def test_strength_scales_the_change(anchor):
    change, half = (splice(TARGET, DRIVER, CHOSEN, anchor, s) - TARGET for s in (1.0, 0.5))
    assert half == pytest.approx(change / 2, abs=1e-6)


def test_the_inputs_are_left_alone():
    splice(TARGET, DRIVER, CHOSEN, ANCHOR, 0.5)
    assert np.array_equal(TARGET, latent(0))


# --- Regions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mouth", "eyes", "brows"),
    [
        ("all", 1, 1, 1),
        ("mouth", 1, 0, 0),
        ("eyes,brows", 0, 1, 1),
        ("mouth=1.2, eyes", 1.2, 1, 0),
        ("all=0.5,mouth=-1", -1, 0.5, 0.5),
    ],
)
def test_regions_and_their_shares(text, mouth, eyes, brows):
    assert parse_regions(text) == {"mouth": mouth, "eyes": eyes, "brows": brows}


@pytest.mark.parametrize("text", ["", "nose", "mouth,,eyes", "mouth eyes"])
def test_a_region_that_is_none_is_refused_with_those_there_are(text):
    with pytest.raises(UsageError, match="eyes, brows, mouth"):
        parse_regions(text)


@pytest.mark.parametrize("text", ["mouth=wide", "eyes=nan", "all=inf", "mouth="])
def test_a_share_that_is_no_number_is_refused(text):
    with pytest.raises(UsageError, match="not a number"):
        parse_regions(text)
