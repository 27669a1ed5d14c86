"""Motion in a file: what comes back, what is refused, what others read; the same as a table."""

import csv
import io
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from clips import make_clip, packets_of, stamps_of

from reenact.errors import ReenactError, UsageError
from reenact.face_landmarker import BLENDSHAPES
from reenact.template import VERSION, Motion, copied_sound, has_sound, load, save, to_csv, unpack_sound
from reenact.types import FaceTrack

FRAMES = 6


def motion(**changes) -> Motion:
    """Six frames at a variable rate, without a face in the third, with a cut before the fifth."""
    found = np.array([True, True, False, True, True, True])
    random = np.random.default_rng(0)

    def rows(*shape):
        values = random.normal(size=(FRAMES, *shape)).astype(np.float32)
        values[~found] = np.nan
        return values

    track = FaceTrack(rows(68, 2), rows(), found, (4,), rows(51), rows(3), rows(478, 3), rows())
    pts = np.array([100, 1101, 2102, 3500, 4000, 5003], np.int64)
    return Motion(
        track, **{"pts": pts, "seconds": (pts - 100) / 30000, "time_base": Fraction(1, 30000), "size": (640, 360)}
        | changes,
    )  # fmt: skip


@pytest.fixture
def written(tmp_path):
    save(tmp_path / "motion.npz", motion(frame_rate=Fraction(30000, 1001), duration=0.2))
    return tmp_path / "motion.npz"


def test_what_is_saved_comes_back(written):
    again, first = load(written), motion()
    assert (again.time_base, again.frame_rate, again.duration) == (Fraction(1, 30000), Fraction(30000, 1001), 0.2)
    assert again.size == (640, 360)
    assert again.track.cuts == (4,)
    for name in ("points", "score", "found", "blendshapes", "pose", "mesh", "inside"):
        assert np.array_equal(getattr(again.track, name), getattr(first.track, name), equal_nan=name != "found"), name
    assert np.array_equal(again.pts, first.pts)
    assert np.array_equal(again.seconds, first.seconds)


def test_others_read_it_without_pickle(written):
    with np.load(written, allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["format"] == "reenact-motion"
    assert arrays["version"] == VERSION
    assert arrays["blendshape_names"].tolist() == list(BLENDSHAPES)
    assert all(array.dtype.kind in "fibuU" for array in arrays.values())


def test_a_part_begins_where_it_is_told_and_knows_its_cut():
    part = motion().part(0.09, 0.14, None)
    assert part.pts.tolist() == [3500, 4000]
    assert part.track.cuts == (1,)
    assert len(motion().part(None, None, 2)) == 2
    with pytest.raises(UsageError, match=r"start 9 s: the template ends at 0\.16 s"):
        motion().part(9, None, None)


def changed(path, **arrays):
    """The same file with some arrays replaced, or left out."""
    with np.load(path) as file:
        np.savez(path, **{k: v for k, v in (dict(file) | arrays).items() if v is not None})
    return path


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"format": np.array("other")}, "something else"),
        ({"version": np.array(2)}, "version 2"),
        ({"mesh": None}, "mesh is missing"),
        ({"points": np.zeros((FRAMES, 68, 3), np.float32)}, r"points is float32 \[6, 68, 3\]"),
        ({"pose": np.zeros((FRAMES + 1, 3), np.float32)}, "pose is"),
        ({"pts": np.arange(FRAMES)[::-1].copy()}, "stamps don't increase"),
        ({"blendshapes": np.full((FRAMES, 51), np.nan, np.float32)}, "blendshapes holds what is no number"),
        ({"cuts": np.array([99])}, "a cut lies outside"),
        ({"time_base": np.array([0, 1])}, "its clock"),
        ({"found": np.zeros(0, bool), "cuts": np.zeros(0, int)}, "points is"),
    ],
)
def test_what_is_not_a_template_is_refused_in_one_line(written, arrays, says):
    with pytest.raises(ReenactError, match=rf"motion\.npz: is not a motion template .*\(.*{says}") as error:
        load(changed(written, **arrays))
    assert "\n" not in str(error.value)


def test_a_pickle_is_never_run(written):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    with pytest.raises(ReenactError, match="mesh is object"):
        load(changed(written, mesh=np.array([Bomb()], object)))


def test_what_claims_to_be_huge_takes_no_memory(written):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (6, 10**12)})
    with zipfile.ZipFile(written, "a") as file:
        file.writestr("sound.npy", header.getvalue())
    with pytest.raises(ReenactError, match="sound is float32"):
        unpack_sound(written, written.parent)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_damaged_file_is_refused(written, keep):
    written.write_bytes(written.read_bytes()[:keep])
    with pytest.raises(ReenactError, match=r"motion\.npz"):
        load(written)


def test_a_name_that_is_overwritten_gives_one_short_line(written):
    data = bytearray(written.read_bytes())
    place = data.index(b"frame_rate.npy")
    data[place : place + 600] = b"\xff" * 600  # the header's, which zipfile quotes where it isn't the directory's
    data[place - 4 : place - 2] = (500).to_bytes(2, "little")
    written.write_bytes(data)
    with pytest.raises(ReenactError, match="is not a motion template") as caught:
        load(written)
    assert len(str(caught.value)) < 250 + len(str(written))


def test_a_track_of_points_alone_makes_none(tmp_path):
    full = motion()
    bare = Motion(FaceTrack(full.track.points, full.track.score, full.track.found, ()), full.pts, full.seconds,
                  full.time_base)  # fmt: skip
    with pytest.raises(UsageError, match="finds points only"):
        save(tmp_path / "motion.npz", bare)
    assert to_csv(bare).count("\n") == FRAMES + 1


# ---- Sound


@pytest.mark.parametrize(
    ("suffix", "codec", "start"), [(".mp4", "aac", 0.0), (".mp4", "aac", 0.37), (".webm", "opus", 0.0)]
)
def test_sound_travels_packet_by_packet_with_its_stamps(suffix, codec, start, tmp_path):
    driver = make_clip(tmp_path / f"driver{suffix}", tuple(range(25)), sound=codec, sound_start=start)
    save(tmp_path / "motion.npz", motion(), driver)
    assert has_sound(tmp_path / "motion.npz")
    sound = unpack_sound(tmp_path / "motion.npz", tmp_path)
    assert packets_of(sound) == packets_of(driver)
    assert stamps_of(sound, "audio") == stamps_of(driver, "audio")


def test_a_silent_driver_gives_none(written, tmp_path):
    assert copied_sound(make_clip(tmp_path / "silent.mp4")) is None
    assert not has_sound(written)
    assert unpack_sound(written, tmp_path) is None


# ---- The table


def test_the_table_has_a_row_a_frame():
    full = motion()
    rows = list(csv.DictReader(io.StringIO(to_csv(full))))
    assert [row["pts"] for row in rows] == ["100", "1101", "2102", "3500", "4000", "5003"]
    assert [row["face"] for row in rows] == ["1", "1", "0", "1", "1", "1"]
    assert [row["cut"] for row in rows] == ["0", "0", "0", "0", "1", "0"]
    assert float(rows[3]["seconds"]) == pytest.approx(3400 / 30000, abs=1e-6)
    assert float(rows[3]["yaw"]) == pytest.approx(full.track.pose[3, 0], abs=0.01)
    assert float(rows[3]["jawOpen"]) == pytest.approx(full.track.blendshapes[3, BLENDSHAPES.index("jawOpen")], abs=1e-4)
    assert set(rows[2].values()) == {"2", "2102", f"{2002 / 30000:.6f}", "0", ""}
