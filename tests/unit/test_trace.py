"""The trace: which pictures it keeps, and that its curves lie where the numbers say."""

import csv

import numpy as np
import pytest
from PIL import Image

from reenact.errors import UsageError
from reenact.trace import Trace, even_axis, plot, plot_losses, row


def plain(height, width, colour):
    return np.full((height, width, 3), colour, np.uint8)


def show_frame(trace, index, size=64):
    mask = plain(size, size, 0)
    mask[20:40, 20:40] = 255
    for stage, rgb in (("driver", plain(48, 64, 90)), ("fused", plain(32, 32, 120)), ("mask", mask)):
        trace.picture(stage, index, rgb)
    trace.picture("composite", index, plain(size, size, 200))


def names(folder, pattern):
    return sorted(p.name for p in folder.glob(pattern))


def test_eight_evenly_spaced_frames_are_kept(tmp_path):
    trace = Trace(tmp_path / "t", total=71)
    for index in range(71):
        show_frame(trace, index)
    assert names(tmp_path / "t", "sheet-*.png") == [f"sheet-{i:06d}.png" for i in range(0, 71, 10)]
    assert names(tmp_path / "t", "frame-000010-*") == [
        f"frame-000010-{stage}.png" for stage in ("composite", "driver", "fused", "mask")
    ]


def test_a_clip_of_one_frame_is_kept(tmp_path):
    trace = Trace(tmp_path, total=1)
    show_frame(trace, 0)
    assert names(tmp_path, "sheet-*.png") == ["sheet-000000.png"]


def test_pictures_are_kept_as_they_are(tmp_path):
    trace, rgb = Trace(tmp_path, total=1), np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    trace.picture("target crop", 0, rgb)
    trace.picture("fused", 0, rgb)
    for name in ("target-crop.png", "frame-000000-fused.png"):
        assert np.array_equal(np.asarray(Image.open(tmp_path / name)), rgb)


def test_a_sheet_shows_the_target_too_and_the_composite_near_the_face(tmp_path):
    trace = Trace(tmp_path, total=1)
    trace.picture("target crop", 0, plain(64, 64, 10))
    small = np.asarray(Image.open(sheet(trace, tmp_path, size=64)))
    large = np.asarray(Image.open(sheet(trace, tmp_path, size=640)))
    assert small.shape == large.shape  # of a ten times larger picture, the same surroundings of the face
    assert small.shape[1] > 4 * 256


def sheet(trace, folder, size):
    show_frame(trace, 0, size)
    return folder / "sheet-000000.png"


def test_losses_are_numbers_and_curves(tmp_path):
    trace = Trace(tmp_path, total=2)
    trace.losses("target", (0.5, 0.25))
    trace.losses("driver 0", (0.125,))
    with (tmp_path / "losses.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["picture", "step", "loss"],
            ["target", "1", "0.5"],
            ["target", "2", "0.25"],
            ["driver 0", "1", "0.125"],
        ]
    assert names(tmp_path, "loss-*.png") == ["loss-driver.png", "loss-target.png"]


def test_a_curve_is_straight_where_losses_fall_by_a_constant_factor():
    losses = tuple(10 ** (-step / 50) for step in range(101))  # 1 to 0.01
    pixels = np.asarray(plot_losses({"target": losses})).astype(int)
    blue = (pixels[:, :735, 2] - pixels[:, :735, 0]) > 100
    rows, columns = np.nonzero(blue)
    slope, offset = np.polyfit(columns, rows, 1)
    assert np.abs(rows - (slope * columns + offset)).max() < 3
    assert slope > 0  # falls to the right


@pytest.mark.parametrize("losses", [(), (0.0,), (0.3,), (0.3, 0.3), (float("nan"), 0.2), (1e-7, 1e5)])
def test_no_losses_break_the_plot(losses):
    assert plot_losses({"target": losses}).size == (900, 540)


@pytest.mark.parametrize(("values", "high"), [((0.1, 0.83), 0.9), ((3.2,), 3.5), ((0.0,), 1e-9), ((7, 41), 45)])
def test_an_even_axis_reaches_from_nothing_past_the_values(values, high):
    axis = even_axis("seconds", values)
    assert (axis.low, axis.high) == (0, pytest.approx(high))
    assert axis.high >= max(values)
    assert axis.share(axis.high / 2) == pytest.approx(0.5)
    assert 2 <= len(axis.ticks) <= 11


def test_a_single_point_is_a_dot_where_its_axes_say():
    across, up = even_axis("x", [10.0]), even_axis("y", [1.0])
    pixels = np.asarray(plot({"one": [(5.0, 0.5)]}, across, up)).astype(int)
    rows, columns = np.nonzero((pixels[:, :735, 2] - pixels[:, :735, 0]) > 100)
    assert (rows.mean(), columns.mean()) == (pytest.approx(252, abs=1), pytest.approx(410, abs=1))


def test_side_by_side_keeps_shapes_at_one_height():
    together = row([plain(100, 50, 10), plain(20, 40, 100), plain(60, 60, 200)], 60)
    assert together.shape == (60, 30 + 120 + 60, 3)
    assert [together[30, x, 0] for x in (15, 90, 180)] == [10, 100, 200]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="-y"):
        Trace(tmp_path)
    assert names(tmp_path, "*") == ["mine.txt"]


def test_overwriting_removes_an_earlier_trace_and_nothing_else(tmp_path):
    for name in ("mine.txt", "frame-000003-mask.png", "target-crop.png", "reconstruction.png", "tuned.png"):
        (tmp_path / name).write_text("x")
    Trace(tmp_path, overwrite=True)
    assert names(tmp_path, "*") == ["losses.csv", "mine.txt"]


def test_a_run_that_goes_on_adds_to_its_trace(tmp_path):
    begun = Trace(tmp_path, total=1)
    begun.picture("target crop", 0, plain(8, 8, 10))
    begun.losses("target", (0.5,))
    begun.note("first")
    (tmp_path / "layers.json").write_text("{}")
    again = Trace(tmp_path, total=1, going_on=True)
    again.losses("driver 0", (0.125,))
    again.note("second")
    assert names(tmp_path, "*.png") == ["loss-driver.png", "loss-target.png", "target-crop.png"]
    assert (tmp_path / "layers.json").exists()
    assert (tmp_path / "losses.csv").read_text().split() == ["picture,step,loss", "target,1,0.5", "driver", "0,1,0.125"]
    assert (tmp_path / "notes.txt").read_text().split() == ["first", "second"]


def test_a_run_that_goes_on_adds_to_nothing_but_a_trace(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="-y"):
        Trace(tmp_path, going_on=True)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file"):
        Trace(tmp_path / "file")


def test_a_search_that_ran_away_is_drawn_as_far_as_it_has_numbers(tmp_path):
    trace = Trace(tmp_path, total=1)
    trace.losses("target", (3.0, 2.0, float("inf")))
    trace.losses("driver 0", (float("nan"),))
    assert names(tmp_path, "loss-*.png") == ["loss-driver.png", "loss-target.png"]
