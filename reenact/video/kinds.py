"""What each suffix stands for, and what it can hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What a suffix means."""

    format: str  # FFmpeg's name
    codec: str
    options: dict[str, str]
    copied: frozenset[str] | None  # sound codecs that it holds and players play there; None: all
    sound: str  # the encoder for other sound


# MP4 can hold PCM by the letter, but hardly a player plays it.
_MP4_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_PCM = frozenset({"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le"})
_FASTSTART = {"movflags": "+faststart"}
KINDS = {
    ".mp4": Kind("mp4", "libx264", _FASTSTART, _MP4_SOUND | {"opus", "flac"}, "aac"),
    ".mov": Kind("mov", "libx264", _FASTSTART, _MP4_SOUND | _PCM, "aac"),
    # A codec's run-up lies before 0; left to itself FFmpeg would move all of the file for it.
    ".mkv": Kind("matroska", "libx264", {"avoid_negative_ts": "disabled"}, None, "aac"),
    ".webm": Kind("webm", "libvpx-vp9", {}, frozenset({"opus", "vorbis"}), "libopus"),
}
MATTE_KINDS = {".mkv": Kind("matroska", "ffv1", {}, None, "")}
