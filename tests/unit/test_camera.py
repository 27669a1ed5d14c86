"""Cameras: files and filter graphs stand in for them, at their pace."""

import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from clips import make_clip, shade, truncate, turn

from reenact import cli, screens
from reenact.errors import ReenactError, UsageError, VideoError
from reenact.images import write_image
from reenact.screens import Preview, Screens, VirtualCamera
from reenact.types import Frame
from reenact.video import probe, read_frames
from reenact.video.camera import TICKS, Camera, Feed, is_camera

# ---- Which one


@pytest.mark.parametrize(
    ("system", "name", "source", "form"),
    [
        ("linux", "camera:0", "/dev/video0", "v4l2"),
        ("linux", "camera:/dev/v4l/by-id/x", "/dev/v4l/by-id/x", "v4l2"),
        ("darwin", "camera:1", "1:none", "avfoundation"),
        ("darwin", "camera:FaceTime HD", "FaceTime HD:none", "avfoundation"),
        ("win32", "camera:Integrated Webcam", "video=Integrated Webcam", "dshow"),
        ("linux", "camera:lavfi:testsrc2=rate=10", "testsrc2=rate=10", "lavfi"),
    ],
)
def test_what_a_name_means(monkeypatch, system, name, source, form):
    monkeypatch.setattr(sys, "platform", system)
    camera = Camera.named(name)
    assert (camera.name, camera.source, camera.format) == (name, source, form)


@pytest.mark.parametrize(("system", "name"), [("linux", "camera:"), ("plan9", "camera:0"), ("win32", "camera:7")])
def test_a_name_that_means_nothing_is_refused(monkeypatch, system, name):
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(UsageError, match=name):
        Camera.named(name)


def test_a_file_of_such_a_name_is_given_by_a_path():
    assert is_camera("camera:0")
    assert not is_camera("./camera:0")


# ---- Pictures


def test_a_file_comes_at_its_own_pace(tmp_path):
    clip = turn(make_clip(tmp_path / "c.mp4", range(20), rate=25), 90)
    began = time.monotonic()
    with Feed(Camera.named(f"camera:{clip}")) as feed:
        frames = list(feed)
    assert time.monotonic() - began >= 19 / 25
    assert feed.came == 20
    assert [f.index for f in frames] == list(range(len(frames)))
    for frame in frames:  # dropped or not, each has its own time
        number = round(frame.seconds * 25)
        assert frame.pts * TICKS == pytest.approx(number / 25)
        assert np.abs(frame.rgb.astype(int) - shade(number)).max() <= 2
        assert frame.rgb.shape == (64, 48, 3)


def test_what_there_is_no_time_for_is_dropped_and_the_newest_taken(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", range(30))
    taken, late = [], []
    with Feed(Camera.named(f"camera:{clip}")) as feed:
        began = None
        for frame in feed:
            began = time.monotonic() - frame.seconds if began is None else began
            late.append(time.monotonic() - began - frame.seconds)
            taken.append(round(frame.seconds * 25))
            time.sleep(0.2)
    assert feed.came == 30
    assert 4 <= len(taken) <= 9
    assert all(b - a >= 2 for a, b in pairwise(taken))
    assert max(late) < 0.2  # never behind by more than the picture under way


def test_a_filter_graph_is_a_camera_that_never_ends():
    with Feed(Camera.named("camera:lavfi:testsrc2=size=96x64:rate=50")) as feed:
        frames = [frame for frame, _ in zip(feed, range(10), strict=False)]
    assert [f.rgb.shape for f in frames] == [(64, 96, 3)] * 10
    assert all(b.seconds > a.seconds for a, b in pairwise(frames))
    assert 0.15 <= frames[-1].seconds <= 2


@pytest.mark.parametrize("source", ["camera:/dev/none", "camera:lavfi:no_such_filter", "camera:lavfi:sine"])
def test_a_camera_that_is_not_there_is_one_line(source):
    with pytest.raises(VideoError) as caught, Feed(Camera.named(source)) as feed:
        next(iter(feed))
    assert source in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_video_is_one_line(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(VideoError, match=r"a\.txt"), Feed(Camera.named(f"camera:{tmp_path / 'a.txt'}")) as feed:
        next(iter(feed))


def test_letting_go_of_a_camera_ends_its_thread(tmp_path):
    clip = make_clip(tmp_path / "c.mp4", range(250))
    with Feed(Camera.named(f"camera:{clip}")) as feed:
        next(iter(feed))
    assert not feed._thread.is_alive()


def test_a_truncated_file_gives_what_there_is(tmp_path):
    clip = truncate(make_clip(tmp_path / "c.mkv", range(20)), 0.7)
    with Feed(Camera.named(f"camera:{clip}")) as feed:
        assert list(feed)
    assert 3 < feed.came < 20


# ---- Screens


def test_a_preview_without_a_screen_is_refused_and_nothing_dies(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="there is no screen"):
        Preview("title")


class Window:
    """Stands in for OpenCV's windows; `keys` are pressed in turn."""

    COLOR_RGB2BGR, WND_PROP_VISIBLE, error = 4, 4, RuntimeError
    WINDOW_NORMAL, WINDOW_KEEPRATIO, WINDOW_GUI_NORMAL = 0, 0, 16

    def __init__(self, keys):
        self.keys, self.shown, self.open, self.visible = list(keys), [], set(), 1.0
        self.namedWindow = lambda title, flags: self.open.add(title)
        self.destroyWindow, self.sizes = self.open.discard, []
        self.resizeWindow = lambda title, width, height: self.sizes.append((width, height))
        self.cvtColor = lambda rgb, code: rgb[..., ::-1]
        self.imshow = lambda title, bgr: self.shown.append(bgr)
        self.waitKey = lambda ms: self.keys.pop(0)
        self.getWindowProperty = lambda title, prop: self.visible


def test_a_preview_ends_by_a_key_or_by_closing_it(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    window = Window([-1, 255, ord("q"), -1])
    monkeypatch.setattr(screens, "cv2", window)
    preview, red = Preview("title"), np.full((4, 4, 3), [255, 0, 0], np.uint8)
    assert [preview.show(red) for _ in range(3)] == [True, True, False]
    assert window.shown[0][0, 0].tolist() == [0, 0, 255]
    assert window.sizes == [(4, 4)]  # once: it may be made larger
    window.visible = 0.0
    assert not preview.show(red)
    preview.close()
    assert not window.open


def test_a_preview_of_a_large_picture_fits_on_a_screen(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    window = Window([-1])
    monkeypatch.setattr(screens, "cv2", window)
    Preview("title").show(np.zeros((1800, 3600, 3), np.uint8))
    assert window.sizes == [(900, 450)]


class FakeVirtual:
    """Stands in for pyvirtualcam."""

    def __init__(self, fail=False):
        self.fail, self.sent, self.closed = fail, [], False

    def Camera(self, width, height, fps):  # noqa: N802  # as there
        if self.fail:
            raise RuntimeError("v4l2loopback:\n no device")
        self.size = (width, height)
        return self

    def send(self, rgb):
        self.sent.append(rgb)

    def close(self):
        self.closed = True


def test_a_virtual_camera_gets_every_picture(monkeypatch):
    fake = FakeVirtual()
    monkeypatch.setitem(sys.modules, "pyvirtualcam", fake)
    rgb = np.zeros((48, 64, 3), np.uint8)
    with Screens([VirtualCamera()]) as shown:
        assert shown.show(rgb)
        assert shown.show(rgb)
    assert (fake.size, len(fake.sent), fake.closed) == ((64, 48), 2, True)


def test_a_virtual_camera_that_cannot_be_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(UsageError, match=r"pip install 'reenact\[camera\]'"):
        VirtualCamera()
    monkeypatch.setitem(sys.modules, "pyvirtualcam", FakeVirtual(fail=True))
    with pytest.raises(ReenactError, match="v4l2loopback: no device"):
        VirtualCamera().show(np.zeros((48, 64, 3), np.uint8))


# ---- The command


@pytest.fixture
def target(tmp_path):
    write_image(tmp_path / "target.png", np.full((80, 80, 3), 99, np.uint8))
    return tmp_path / "target.png"


def film(monkeypatch, tmp_path, target, end, *words, count=10):
    """Run the command on a camera; `live` yields so many frames and then raises `end`, unless that is None."""

    def live(target, camera, options=None, store=None, hooks=None):
        for i in range(count):
            yield Frame(np.full((64, 64, 3), 10 * i, np.uint8), i, 9000 * i, 0.1 * i)
        if end:
            raise end

    monkeypatch.setattr("reenact.live.live", live)
    names = [target, "camera:0", "-o", tmp_path / "out.mp4", *words]
    return cli.main([str(name) for name in names])


@pytest.mark.parametrize("end", [None, KeyboardInterrupt()])
def test_filming_ends_with_a_whole_file(monkeypatch, tmp_path, target, end, capsys):
    assert film(monkeypatch, tmp_path, target, end) == 0
    assert [f.seconds for f in read_frames(tmp_path / "out.mp4")] == pytest.approx([0.1 * i for i in range(10)])
    assert not probe(tmp_path / "out.mp4").has_audio
    assert f"{tmp_path / 'out.mp4'}: 10 frames" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4", "target.png"]


def test_a_camera_that_goes_leaves_what_was_filmed_and_a_line(monkeypatch, tmp_path, target, capsys):
    assert film(monkeypatch, tmp_path, target, VideoError("camera:0: gives no more pictures")) == 1
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 10
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        last == f"reenact: error: camera:0: gives no more pictures; {tmp_path / 'out.mp4'} holds the 10 frames before"
    )


@pytest.mark.parametrize(("end", "status"), [(KeyboardInterrupt(), 130), (VideoError("camera:0: gone"), 1)])
def test_what_ends_before_the_first_frame_leaves_nothing(monkeypatch, tmp_path, target, end, status):
    assert film(monkeypatch, tmp_path, target, end, count=0) == status
    assert [p.name for p in tmp_path.iterdir()] == ["target.png"]


def test_closing_the_preview_ends_it(monkeypatch, tmp_path, target):
    monkeypatch.setenv("DISPLAY", ":0")
    window = Window([-1, -1, ord("q")])
    monkeypatch.setattr(screens, "cv2", window)
    assert film(monkeypatch, tmp_path, target, None, "--preview") == 0
    assert len(list(read_frames(tmp_path / "out.mp4"))) == len(window.shown) == 3
    assert not window.open


@pytest.mark.parametrize("words", [["--side-by-side"], ["--start", 1], ["--matte", "m.mkv"], ["--trace", "t"]])
def test_what_does_not_go_with_a_camera_is_refused(monkeypatch, tmp_path, target, words, capsys):
    assert film(monkeypatch, tmp_path, target, None, *words) == 2
    assert words[0] in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["target.png"]


def test_a_preview_of_a_file_is_refused(tmp_path, target, capsys):
    clip = make_clip(tmp_path / "c.mp4")
    assert cli.main([str(target), str(clip), "-o", str(tmp_path / "out.mp4"), "--preview"]) == 2
    assert "--preview" in capsys.readouterr().err
