"""The track and the light of tools/make_pairs.py, and its list; no networks."""

import math
import sys
from pathlib import Path

import pytest
import torch

from reenact.expression import NAMES, USED, limited
from reenact.manifest import read_manifest

sys.path.append(str(Path(__file__).parents[2] / "tools"))  # the tools are scripts, not part of the package

from make_pairs import EXPRESSIONS, Light, change_of, goals_of, lit, order_of, to_manifest, track_of


def test_a_track_starts_and_ends_at_rest() -> None:
    track = track_of(0, 40)
    assert track.shape == (40, len(NAMES))
    assert not track[0].any()
    assert torch.allclose(track[-1], torch.zeros(len(NAMES)), atol=1e-6)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_is_reached_in_forty_frames(expression: str) -> None:
    full = change_of(expression)
    nearest = (track_of(3, 40) - full).norm(dim=1).min()
    assert nearest < 0.1 * full.norm()


def test_a_track_is_smooth() -> None:
    track = track_of(1, 400)
    between = track.diff(dim=0)
    longest = max((change_of(a) - change_of(b)).abs().max() for a in EXPRESSIONS for b in EXPRESSIONS)
    steps_a_key = 399 / (len(EXPRESSIONS) + 1)
    assert between.abs().max() <= longest * math.pi / 2 / steps_a_key * 1.01  # half a cosine's greatest slope
    # Speed is nil where one expression gives way to the next.
    keys = [round(k * steps_a_key) for k in range(1, len(EXPRESSIONS) + 1)]
    assert between[keys].abs().max() < 0.1 * between.abs().max()


def test_pairs_go_through_the_same_expressions_in_orders_of_their_own() -> None:
    orders = [order_of(pair) for pair in range(8)]
    assert all(sorted(order) == sorted(EXPRESSIONS) for order in orders)
    assert len(set(orders)) == 8
    assert torch.equal(track_of(2, 40), track_of(2, 40))


def test_both_sides_of_a_smile_and_either_eye_change_alike() -> None:
    smile, blink = change_of("smile"), change_of("blink")
    assert smile[NAMES.index("mouthSmileLeft")] == smile[NAMES.index("mouthSmileRight")] > 0
    assert blink[NAMES.index("lid left")] == blink[NAMES.index("lid right")] < 0


def test_people_show_their_own_rest_and_the_tracks_change_and_no_eye_is_less_than_shut() -> None:
    rest = torch.full((len(NAMES),), 0.02)
    goals = goals_of(track_of(0, 40), rest)
    assert torch.allclose(goals[0], rest)
    blinking = goals_of(change_of("blink")[None], rest)[0]
    assert blinking[NAMES.index("lid left")] == 0
    smiling = goals_of(change_of("smile")[None], rest)[0]
    assert torch.allclose(smiling[: len(USED)], rest[: len(USED)] + limited(change_of("smile"))[: len(USED)])


def test_a_light_from_the_right_brightens_the_right_and_leaves_the_middle() -> None:
    grey = torch.zeros(3, 65, 65)
    shone = lit(grey, Light(angle=0.0, stops=1.0, gamma=1.0))
    assert shone[0, 32, 64] > 0 > shone[0, 32, 0]
    assert torch.allclose(shone[:, :, 32], torch.zeros(3, 65), atol=1e-6)
    assert ((shone[0, 0, 64] + 1) / (shone[0, 0, 0] + 1)).item() == pytest.approx(2 ** (1 / 2.2), rel=1e-4)
    assert lit(grey, None) is grey


def test_the_list_is_one_that_the_benchmark_reads(tmp_path: Path) -> None:
    for pair in ("pair0", "pair1"):
        (tmp_path / pair).mkdir()
        for file in ("target.png", "driver.mp4", "truth.mp4"):
            (tmp_path / pair / file).touch()
    (tmp_path / "manifest.toml").write_text(to_manifest(2))
    first, second = read_manifest(tmp_path / "manifest.toml")
    assert (first.name, first.kind, second.name) == ("pair0", "cross", "pair1")
    assert first.truth == tmp_path / "pair0" / "truth.mp4"
