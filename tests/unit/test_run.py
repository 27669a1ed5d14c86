"""What a run makes of a generator that half precision is too little for."""

from types import SimpleNamespace

import pytest
import torch

from reenact.errors import WeightsError
from reenact.run import Run


class Painter:
    """Draws one colour."""

    def __init__(self, colour):
        self.colour = colour

    def synthesize(self, w, size):
        return torch.full((len(w), 3, size, size), self.colour)


def picture(quick, precise):
    """What is drawn, and what was warned of."""
    said = []
    run = SimpleNamespace(
        artist=Painter(quick), _precise_artist=Painter(precise), size=8, options=SimpleNamespace(generator="own.pkl"),
        _warn_once=said.append,
    )  # fmt: skip
    return Run._picture(run, torch.zeros(2, 512)), said


def test_what_half_precision_can_draw_is_shown():
    drawn, said = picture(0.25, float("nan"))
    assert (drawn == 0.25).all()
    assert not said


@pytest.mark.parametrize("overflow", [float("inf"), float("nan")])
def test_what_it_cannot_is_drawn_in_full(overflow):
    drawn, said = picture(overflow, 0.5)
    assert (drawn == 0.5).all()
    assert said == ["--generator own.pkl: what it draws is beyond half precision; faces are drawn anew in float32"]


def test_a_picture_that_is_none_at_all_is_refused():
    with pytest.raises(WeightsError, match="what it draws is no picture"):
        picture(float("nan"), float("inf"))
