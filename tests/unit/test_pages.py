"""The pages: what they say is what was measured, and nothing in them leaves the file."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from evaluations import evaluation, score

from reenact.errors import VideoError
from reenact.report import Run, benchmark_page, mean_scores, write_report
from reenact.types import Score

EVIL = '<script>alert("1")</script>&amp;'
FRAMES = 5


class Page(HTMLParser):
    """Every element with its attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        texts = list[str]()
        self.elements.append((tag, dict(attributes), texts))
        if tag not in ("meta", "link", "img", "input", "br"):
            self._open.append(texts)

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        for texts in self._open:
            texts.append(data)

    def of(self, tag: str, kind: str = "") -> list[tuple[dict[str, str], str]]:
        """The elements of a tag, and of a class: attributes and text."""
        classes = [(a, "".join(texts)) for t, a, texts in self.elements if t == tag]
        return [(a, text) for a, text in classes if not kind or kind in (a.get("class") or "").split()]

    def data(self) -> dict:
        return json.loads(next(text for a, text in self.of("script") if a.get("id") == "data"))


@pytest.fixture
def clips(tmp_path):
    driver = make_clip(tmp_path / "driver.mp4", tuple(range(FRAMES)))
    return {"driver": driver, "output": make_clip(tmp_path / "output.mp4", tuple(range(FRAMES)))}


def report(tmp_path, clips, scores, **more) -> Page:
    write_report(tmp_path / "report.html", evaluation(scores, FRAMES, **more), clips)
    return Page(tmp_path / "report.html")


def test_nothing_in_the_page_leads_out_of_it(tmp_path, clips):
    page = report(tmp_path, clips, [score("expression", [1, 2, 3, 4, 5])])
    targets = [a[name] for _, a, _ in page.elements for name in ("src", "href", "poster", "action") if a.get(name)]
    assert len(targets) > 5
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert "@import" not in (tmp_path / "report.html").read_text()


def test_all_text_is_escaped(tmp_path, clips):
    scores = [score(EVIL, range(FRAMES), unit=EVIL, note=EVIL), Score("plain", EVIL, "lower", None, None, EVIL)]
    page = report(tmp_path, clips, scores, skipped={EVIL: EVIL}, notes=(EVIL,), settings={EVIL: EVIL})
    assert len(page.of("script")) == 2  # the page's own: data and code
    assert page.data()["curves"][0]["name"] == EVIL
    assert EVIL in page.of("h3")[0][1]
    assert EVIL in page.of("ul", "notes")[0][1]
    assert sum(text == EVIL for _, text in page.of("dd")) == 3


def test_a_row_gives_value_unit_worst_frame_and_frames_not_measured(tmp_path, clips):
    page = report(tmp_path, clips, [score("akd", [1, 2, np.nan, 9, 4], unit="px")])
    (cells,) = [text for _, text in page.of("tr") if text.startswith("akd")]
    assert "4 px" in cells
    assert "lower is better" in cells
    numbers = [text for _, text in page.of("td", "number")]
    assert numbers == ["4 px↓lower is better", "9", "1"]
    assert page.of("button", "frame")[0][1] == "3"


def test_what_was_not_measured_is_said_with_its_reason(tmp_path, clips):
    scores = [Score("drift", "ms", "lower", None, None, "no sound")]
    page = report(tmp_path, clips, scores, skipped={"identity": "needs dlib"})
    text = "".join(text for _, text in page.of("main"))
    assert "Not measured" in text
    assert "no sound" in text
    assert "needs dlib" in text


def test_the_script_gets_every_frames_value(tmp_path, clips):
    page = report(tmp_path, clips, [score("akd", [1, 2, np.nan, 9, 4]), Score("gain", "", "one", 0.8)])
    data = page.data()
    assert data["frames"] == FRAMES
    assert data["seconds"] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    (curve,) = data["curves"]
    assert curve["values"] == [1, 2, None, 9, 4]
    assert curve["worst"] == 3


@pytest.mark.parametrize(("better", "moments"), [("lower", [3, 1, 0]), ("higher", [0, 1, 3]), ("one", [3, 0, 1])])
def test_a_film_strip_shows_the_worst_the_median_and_the_best_frame(tmp_path, clips, better, moments):
    page = report(tmp_path, clips, [score("expression", [0.5, 1.1, np.nan, 9, np.nan], better)])
    links = [(a, text) for a, text in page.of("button", "frame") if text.startswith("frame")]
    assert [int(a["data-frame"]) for a, _ in links] == moments
    alts = [a["alt"] for a, _ in page.of("img") if "frame" in a.get("alt", "")]
    assert alts == [f"{clip}, frame {frame}" for frame in moments for clip in clips]


def test_a_score_that_never_changes_has_no_worst_frame_to_show(tmp_path, clips):
    page = report(tmp_path, clips, [score("expression", [1] * FRAMES), score("akd", [1, 1, 1, 2, 1])])
    assert [text for _, text in page.of("h3")][2:] == ["akd"]  # after the two curves


def test_every_picture_and_control_has_a_name(tmp_path, clips):
    page = report(tmp_path, clips, [score("expression", range(FRAMES))])
    assert all(a.get("alt") for a, _ in page.of("img"))
    named = [*page.of("video"), *page.of("input"), *page.of("select"), *page.of("div", "plot")]
    assert len(named) == 5
    assert all(a.get("aria-label") for a, _ in named)


def test_progress_ends_where_it_said_it_would(tmp_path, clips):
    said = []
    write_report(
        tmp_path / "r.html", evaluation([], FRAMES), clips, on_progress=lambda done, total: said.append((done, total))
    )
    assert [done for done, _ in said] == list(range(1, 2 * FRAMES + 1))
    assert {total for _, total in said} == {2 * FRAMES}


def test_a_page_that_cannot_be_made_is_not_there(tmp_path, clips):
    clips["output"].write_text("no video")
    with pytest.raises(VideoError):
        write_report(tmp_path / "report.html", evaluation([], FRAMES), clips)
    assert not (tmp_path / "report.html").exists()


# ---- A benchmark's page ------------------------------------------------------------------------------------------


def run(pair: str, method: str, folder: Path | None = None, **values: float | None) -> Run:
    scores = {name: Score(name, "", "one" if name == "gain" else "lower", value) for name, value in values.items()}
    return Run(pair, method, scores, folder and folder / pair / method / "report.html", np.zeros((8, 24, 3), np.uint8))


def test_methods_are_compared_on_the_pairs_that_all_of_them_have():
    runs = [
        run("a", "x", e=1.0),
        run("a", "y", e=3.0),
        run("b", "x", e=100.0),
        run("b", "y", e=None),
        run("c", "y", e=9),
    ]
    assert mean_scores("e", ["x", "y"], runs) == ({"x": 1.0, "y": 3.0}, 1)
    assert mean_scores("other", ["x", "y"], runs) == ({}, 0)


def test_the_best_method_of_a_row_is_marked(tmp_path):
    runs = [run("a", "x", e=1.0, gain=0.5), run("a", "y", e=3.0, gain=1.2)]
    benchmark_page(tmp_path / "index.html", "All", {"self": runs})
    assert [text for _, text in Page(tmp_path / "index.html").of("td", "best")] == ["1", "1.2"]


def test_a_run_without_scores_is_shown_and_not_compared(tmp_path):
    runs = [run("a", "driver"), run("a", "x", e=1.0), run("a", "y", e=3.0)]
    benchmark_page(tmp_path / "index.html", "All", {"self": runs})
    page = Page(tmp_path / "index.html")
    assert [text for _, text in page.of("th", "number")] == ["x", "y", "Pairs"]
    assert [text for _, text in page.of("td", "number")] == ["1", "3", "1"]
    assert len(page.of("img")) == 3


def test_where_all_are_alike_none_is_best(tmp_path):
    benchmark_page(tmp_path / "index.html", "All", {"self": [run("a", "x", e=1.0), run("a", "y", e=1.0)]})
    assert not Page(tmp_path / "index.html").of("td", "best")


def test_every_run_has_its_strip_and_leads_to_its_own_page(tmp_path):
    runs = [run("a b", method, tmp_path / "runs", e=1.0) for method in ("x", EVIL)]
    benchmark_page(tmp_path / "index.html", EVIL, {EVIL: runs}, notes=[EVIL])
    page = Page(tmp_path / "index.html")
    assert len(page.of("script")) == 2
    assert [a["href"] for a, _ in page.of("a")] == ["runs/a%20b/x/report.html", page.of("a")[1][0]["href"]]
    assert [a["alt"] for a, _ in page.of("img")] == ["frames of a b by x", f"frames of a b by {EVIL}"]


def test_a_group_without_runs_is_a_page_all_the_same(tmp_path):
    benchmark_page(tmp_path / "index.html", "All", {"self": []})
    assert "self" in "".join(text for _, text in Page(tmp_path / "index.html").of("h2"))
