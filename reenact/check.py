"""A look at a target and a driver before the work: what will be hard, and what to do about it.

Seconds instead of minutes: the driver's faces are looked for in a few of its frames only, its cuts in the first minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from . import follow, landmarks
from .align import cut_out, ffhq_crop
from .cuts import CutFinder
from .detectors import Detector
from .devices import choose_device
from .dub import is_clip, short_by
from .face_landmarker import BLENDSHAPES
from .follow import Choice
from .geometry import scale_of
from .images import is_image, noise_of, read_image
from .template import Motion
from .types import Floats, Landmarks, Rgb
from .video import probe, read_frames
from .video.stamps import picture_times, sound_times
from .weights import WeightStore

LOOKS = 24
"""Frames of the driver in which faces are looked for."""
MOST = 1800
"""Frames of it that are decoded: a minute's."""

# What a run does without being worse for it was found by trying; beyond these the result shows it.
ASIDE, TILTED, NODDING = 30.0, 45.0, 30.0  # degrees of yaw, roll and pitch
SMALL, TINY = 100.0, 40.0  # pixels across the face's landmarks
BLURRED = 0.7  # share of a face's finest contrast that is not there, see `_blur`
NOISY = 5.0  # grey levels
DARK, BRIGHT = 40.0, 225.0  # grey levels, the mean of a face
OUTSIDE = 0.06  # share of the landmarks that lie outside the picture
UNSURE = 0.99  # the detector's own probability of a face that is whole
OPEN, SHUT = 0.3, 0.5  # blendshapes of a mouth that is open and an eye that is shut


@dataclass(frozen=True)
class FaceFacts:
    """One face, measured."""

    width: float  # pixels across the landmarks, upright or not
    yaw: float  # degrees
    pitch: float
    roll: float
    blur: float  # 0: sharp, 1: nothing fine is left
    noise: float  # grey levels
    light: float  # mean grey level of the face
    outside: float  # share of the landmarks beyond the picture's edge
    score: float  # the detector's
    jaw_open: float
    eyes_shut: float


_UNSEEN = FaceFacts(0, 0, 0, 0, blur=0, noise=0, light=128, outside=0, score=1, jaw_open=0, eyes_shut=0)


@dataclass(frozen=True)
class Finding:
    """Something that will be hard."""

    about: str  # "target" or "driver"
    what: str  # "pose", "size", ...: a word for programs
    fails: bool  # the run would end in an error
    says: str  # what it is and what to do, in one line


@dataclass(frozen=True)
class Report:
    """What was seen."""

    target: dict[str, object]
    driver: dict[str, object]
    findings: tuple[Finding, ...]


def to_json(report: Report) -> str:
    """All of it."""
    return json.dumps(asdict(report), indent=1)


def check(
    target: Path,
    driver: Path,
    target_face: Choice,
    driver_face: Choice,
    store: WeightStore,
    device: str = "auto",
    on_progress: Callable[[str, int, int | None], None] = lambda stage, done, total: None,
) -> Report:
    """Look at both.

    Args:
        target: a picture, or a clip.
        driver: a video or a picture.
        target_face: which face of the target.
        driver_face: which of the driver, in each frame by itself.
        store: where the detector's weights are.
        device: where it runs.
        on_progress: told "check", frames done and how many there are.

    Raises:
        ReenactError: a file that can't be read, weights that can't be had.
    """
    _, detector = landmarks.choose_detector("landmarker", store, choose_device(device))
    if is_clip(target):
        seen, target_findings = _moving(target, detector, target_face, on_progress)
        target_findings += _together(target, driver)
    else:
        seen, target_findings = _target(read_image(target), detector, target_face)
    if is_image(driver):
        acting, driver_findings = _still(read_image(driver), detector, driver_face)
    else:
        acting, driver_findings = _clip(driver, detector, driver_face, on_progress)
    return Report(seen, acting, (*target_findings, *driver_findings))


# ---- The target --------------------------------------------------------------------------------------------------


def _target(rgb: Rgb, detector: Detector, choice: Choice) -> tuple[dict[str, object], list[Finding]]:
    facts, seen, findings = _picture("target", rgb, detector, choice)
    if seen is None:
        return facts, findings
    if seen.jaw_open > OPEN:
        findings.append(Finding("target", "mouth", False, "the mouth is open; one that is shut can be moved further"))
    if seen.eyes_shut > SHUT:
        findings.append(Finding("target", "eyes", False, "the eyes are shut and can't be opened; take another photo"))
    return facts, findings


def _moving(
    path: Path, detector: Detector, choice: Choice, on_progress: Callable[[str, int, int | None], None]
) -> tuple[dict[str, object], list[Finding]]:
    """A target that is a clip."""
    looked = _looked_at(path, detector, choice, on_progress)
    facts, missing, count = looked.facts, looked.there.count(False), len(looked.there)
    if not looked.seen:
        return facts, [_never("target", looked, choice)]
    facts["face"] = asdict(looked.typical()) | {"yaw at most": looked.worst().yaw}
    findings = list(_of_face("target", looked.worst()))
    if missing:
        says = f"no face in {missing} of {count} frames that were looked at; they stay as they are"
        findings.append(Finding("target", "missing", False, says))
    if facts["cuts"]:
        says = f"{facts['cuts']} cuts; each scene is followed by itself, and is at rest in a frame of its own"
        findings.append(Finding("target", "cuts", False, says))
    if cast(int, facts["faces"]) > 1 and choice == Choice():
        findings.append(_crowd("target", cast(int, facts["faces"]), "--target-face"))
    return facts, findings


def _together(clip: Path, driver: Path) -> Iterator[Finding]:
    """What is hard of a target that is a clip and of that driver."""
    if is_image(driver):
        yield Finding("target", "clip", True, "is a clip, which takes a video as driver")
    elif missing := short_by(picture_times(clip), picture_times(driver)):
        says = f"ends {missing:.1f} s before the driver does; its last frame is held"
        yield Finding("target", "length", False, says)


def _still(rgb: Rgb, detector: Detector, choice: Choice) -> tuple[dict[str, object], list[Finding]]:
    facts, _, findings = _picture("driver", rgb, detector, choice)
    return facts, findings


def _picture(
    about: str, rgb: Rgb, detector: Detector, choice: Choice
) -> tuple[dict[str, object], FaceFacts | None, list[Finding]]:
    """A picture, its face where there is one, and what is hard about them."""
    faces = next(iter(detector.track([rgb])))
    facts: dict[str, object] = {"width": rgb.shape[1], "height": rgb.shape[0], "faces": len(faces)}
    face = choice.pick(faces)
    if face is None:
        return facts, None, [_absent(about, len(faces), choice)]
    seen = measured(rgb, face)
    findings = list(_of_face(about, seen, maskable=about == "target"))
    if len(faces) > 1 and choice == Choice():
        findings.append(_crowd(about, len(faces), f"--{about}-face"))
    return facts | {"face": asdict(seen)}, seen, findings


def _absent(about: str, count: int, choice: Choice) -> Finding:
    """Of a picture with so many faces, none of which is the one meant."""
    says = "no face is found; it needs one that is seen from the front or half aside"
    if count:
        says = f"there is no face {choice}; {count} are found, counted from the left from 0"
    return Finding(about, "face", True, says)


def _never(about: str, looked: _Looked, choice: Choice) -> Finding:
    """Of a clip that shows the face meant in no frame."""
    if faces := cast(int, looked.facts["faces"]):
        return _absent(about, faces, choice)
    says = f"no face is found in any of {len(looked.there)} frames that were looked at"
    return Finding(about, "face", True, says)


def _crowd(about: str, count: int, flag: str) -> Finding:
    return Finding(about, "faces", False, f"{count} faces; {flag} says whose, else it is the largest")


# ---- The driver --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Looked:
    """What some frames of a clip show."""

    facts: dict[str, object]
    times: NDArray[np.float64]  # of all frames, seconds
    every: int  # how many frames lie from one that was looked at to the next
    there: list[bool]  # whether they show the face
    seen: list[FaceFacts]
    looks: list[Floats]

    def typical(self) -> FaceFacts:
        """The face as it mostly is."""
        return FaceFacts(*np.median([[*asdict(face).values()] for face in self.seen], 0).round(4).tolist())

    def worst(self) -> FaceFacts:
        """That, but its pose and how much of it the picture's edge cuts off as where they are hardest."""
        yaw = max(self.seen, key=lambda face: abs(face.yaw)).yaw
        return replace(self.typical(), yaw=yaw, outside=max(face.outside for face in self.seen))


def _looked_at(
    path: Path, detector: Detector, choice: Choice, on_progress: Callable[[str, int, int | None], None]
) -> _Looked:
    info, times, sound = probe(path), picture_times(path), sound_times(path)
    total = min(len(times), MOST)
    every = max(1, total // LOOKS)
    cuts, there, seen, crowd = list[int](), list[bool](), list[FaceFacts](), 0
    looks, finder = list[Floats](), CutFinder()
    for frame in read_frames(path, max_frames=MOST):
        if finder.is_cut(frame.rgb):
            cuts.append(frame.index)
        if frame.index % every == 0:
            found = next(iter(detector.track([frame.rgb])))
            crowd, face = max(crowd, len(found)), choice.pick(found)
            there.append(face is not None)
            if face is not None:
                seen.append(measured(frame.rgb, face))
                looks.append(follow.look_of(frame.rgb, face))
        on_progress("check", frame.index + 1, total)
    facts: dict[str, object] = {
        "width": info.width, "height": info.height, "frames": len(times), "seconds": info.duration,
        "looked at": len(there), "with a face": len(seen), "faces": crowd, "cuts": len(cuts),
        "sound": sound.codec if sound else None, "varying rate": _varies(times),
    }  # fmt: skip
    return _Looked(facts, times, every, there, seen, looks)


def _clip(
    path: Path, detector: Detector, choice: Choice, on_progress: Callable[[str, int, int | None], None]
) -> tuple[dict[str, object], list[Finding]]:
    looked = _looked_at(path, detector, choice, on_progress)
    facts, seen, looks = looked.facts, looked.seen, looked.looks
    findings = list(_of_clip(looked, choice))
    if seen:
        facts["face"] = asdict(looked.typical()) | {"yaw at most": looked.worst().yaw}
        findings += _of_face("driver", looked.worst())
        if not facts["cuts"] and (covered := _covered(looks, [face.yaw for face in seen])):
            findings.append(Finding(
                "driver", "covered", False,
                f"something seems to cover the face in {covered} of {len(looks)} frames; its expression is held there",
            ))  # fmt: skip
    if cast(int, facts["faces"]) > 1 and choice == Choice():
        findings.append(_crowd("driver", cast(int, facts["faces"]), "--driver-face"))
    return facts, findings


def _of_clip(looked: _Looked, choice: Choice) -> Iterator[Finding]:
    facts, times, there = looked.facts, looked.times, looked.there
    missing, count = there.count(False), len(there)
    if missing == count:
        yield _never("driver", looked, choice)
    elif missing:
        first = times[min(there.index(False) * looked.every, len(times) - 1)] - times[0]
        yield Finding(
            "driver", "missing", False,
            f"no face in {missing} of {count} frames that were looked at, first at {first:.1f} s; the last expression "
            "is held, or --on-missing fade, skip or fail",
        )  # fmt: skip
    if facts["cuts"]:
        advice = "each scene is followed by itself; --start and --end take one of them"
        yield Finding("driver", "cuts", False, f"{facts['cuts']} cuts; {advice}")
    if len(times) > MOST:
        yield Finding("driver", "length", False, f"{len(times)} frames; only the first {MOST} were looked at")
    if facts["varying rate"]:
        gaps = np.diff(times) * 1000
        yield Finding(
            "driver", "rate", False,
            f"the frame rate varies, {gaps.min():.0f} to {gaps.max():.0f} ms a frame; the result keeps it",
        )  # fmt: skip
    if facts["sound"] is None:
        yield Finding("driver", "sound", False, "no sound, and so none in the result")


def _varies(times: NDArray[np.float64]) -> bool:
    """Whether frames last so differently that rounding does not explain it."""
    gaps = np.diff(times)
    return len(gaps) > 1 and bool(gaps.max() - gaps.min() > max(0.0025, 0.1 * float(np.median(gaps))))


def _covered(looks: list[Floats], yaws: list[float]) -> int:
    """In how many the face is unlike what it mostly is, though it looks the same way."""
    usual = np.median(looks, 0)
    off = [float(np.sqrt(np.square(look - usual).mean())) for look in looks]
    most = max(follow.COVERED, follow.TIMES_USUAL * float(np.median(off)))
    middle = float(np.median(yaws))
    return sum(value > most and abs(yaw - middle) < 15 for value, yaw in zip(off, yaws, strict=True))


# ---- During a run -----------------------------------------------------------------------------------------------


def hard_target(rgb: Rgb, face: Landmarks, maskable: bool = True) -> list[str]:
    """What a run should say of its target before it begins, in lines; nothing of a face known by points only.

    `maskable`: whether what is before the face could be marked, and isn't.
    """
    if face.pose is None or face.blendshapes is None:
        return []
    return [finding.says for finding in _of_face("target", measured(rgb, face), maskable)]


def hard_motion(motion: Motion, about: str) -> list[str]:
    """What a run should say of a face that it knows by then in every frame: `about` is "driver" or "target"."""
    track = motion.track
    there = track.found
    if track.pose is None or not there.any():
        return []
    yaw, pitch, roll = np.percentile(np.abs(track.pose[there]), 95, 0).tolist()  # a glance aside is not worth a line
    points = track.points[there]
    width, height = motion.size
    outside = ((points < 0) | (points > np.array([width, height]) - 1)).any(2).mean(1) if width else np.zeros(1)
    seen = replace(
        _UNSEEN, yaw=yaw, pitch=pitch, roll=roll,
        width=float(np.median(np.ptp(points, 1).max(1))), outside=float(np.percentile(outside, 95)),
    )  # fmt: skip
    return [finding.says for finding in _of_face(about, seen)]


# ---- A face ------------------------------------------------------------------------------------------------------


def measured(rgb: Rgb, face: Landmarks) -> FaceFacts:
    """The facts of a face, found by the landmarker, in an RGB uint8 [H,W,3] picture."""
    assert face.pose is not None  # the landmarker knows it
    assert face.blendshapes is not None
    crop = ffhq_crop(face.points)
    side = int(np.clip(scale_of(crop), 16, 256))
    inner = side // 5  # without hair and background
    grey = cv2.cvtColor(cut_out(rgb, crop, side).rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)[inner:-inner, inner:-inner]
    shapes = dict(zip(BLENDSHAPES, face.blendshapes.tolist(), strict=True))
    beyond = (face.points < 0) | (face.points > np.array(rgb.shape[1::-1]) - 1)
    yaw, pitch, roll = (round(float(angle), 1) for angle in face.pose)
    return FaceFacts(
        width=round(float(np.ptp(face.points, 0).max()), 1),
        yaw=yaw, pitch=pitch, roll=roll,
        blur=_blur(grey), noise=round(noise_of(grey), 2), light=round(float(grey.mean()), 1),
        outside=float(beyond.any(1).mean()), score=face.score,
        jaw_open=shapes["jawOpen"], eyes_shut=min(shapes["eyeBlinkLeft"], shapes["eyeBlinkRight"]),
    )  # fmt: skip


def _blur(grey: Floats) -> float:
    """How little a further blur takes away, 0..1 (Crete et al., "The blur effect", 2007)."""
    worst = 0.0
    for axis, size in ((1, (9, 1)), (0, (1, 9))):
        fine = np.abs(np.diff(grey, axis=axis))
        left = np.abs(np.diff(cv2.blur(grey, size), axis=axis))
        worst = max(worst, 1 - float(np.maximum(0, fine - left).sum() / max(float(fine.sum()), 1e-6)))
    return round(worst, 3)


def _of_face(about: str, face: FaceFacts, maskable: bool = False) -> Iterator[Finding]:
    other = "take another photo" if about == "target" else "record it again"
    front = ", or mark what covers it: --front" if maskable else ""

    def hard(what: str, says: str) -> Finding:
        return Finding(about, what, False, says)

    if abs(face.yaw) > ASIDE:
        yield hard("pose", f"the face looks {abs(face.yaw):.0f} degrees aside; up to {ASIDE:.0f} come out well")
    if abs(face.pitch) > NODDING:
        yield hard(
            "pose", f"the face looks {abs(face.pitch):.0f} degrees up or down; up to {NODDING:.0f} come out well"
        )
    if abs(face.roll) > TILTED:
        yield hard("pose", f"the head is tilted by {abs(face.roll):.0f} degrees; turn the picture upright")
    if face.width < SMALL:
        how = "little of its expression can be seen" if about == "driver" or face.width < TINY else "it shows no detail"
        yield hard("size", f"the face is {face.width:.0f} pixels wide: {how}; take {SMALL:.0f} or more, if you can")
    if face.blur > BLURRED and face.width >= TINY:
        yield hard("blur", f"the face is blurred; {other}, or --smooth 1.5" if about == "driver" else
                   f"the face is blurred, and so will be the result; {other}")  # fmt: skip
    if face.noise > NOISY:
        yield hard("noise", "the picture is noisy; more light, or --smooth 1.5, makes the motion calmer"
                   if about == "driver" else f"the picture is noisy; {other} in more light")  # fmt: skip
    if not DARK <= face.light <= BRIGHT:
        how = "dark" if face.light < DARK else "overexposed"
        yield hard("light", f"the face is {how} (mean {face.light:.0f} of 255); {other} in better light")
    if face.outside > OUTSIDE:
        yield hard("edge", f"{100 * face.outside:.0f} % of the face lie outside the picture and are guessed; "
                   f"{other}")  # fmt: skip
    if face.score < UNSURE:
        yield hard("covered", f"the face may be covered in part (score {face.score:.2f}), by a hand or hair; if so, "
                   f"{other}{front}")  # fmt: skip
