"""The page in a real browser: it is drawn, it plays in step, it answers the pointer, and it keeps to itself."""

import io
import json
import shutil
import time

import numpy as np
import pytest
from clips import make_clip, quarters, shade
from evaluations import RATE, evaluation, score
from PIL import Image

from reenact.images import write_image
from reenact.report import write_report
from reenact.types import Score

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install '.[test]'")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
)

FRAMES = 60
VALUES = [0.1 + 0.001 * (i - 40) ** 2 for i in range(FRAMES)]  # the worst is frame 0
GAP = range(10, 13)  # not measured
SWITCHES = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page on clips whose frame i is all `shade(i)`."""
    folder = tmp_path_factory.mktemp("report")
    write_image(folder / "target.png", quarters(0, 64, 64))
    clips = {name: make_clip(folder / f"{name}.mp4", tuple(range(FRAMES))) for name in ("driver", "output", "truth")}
    holed = [np.nan if i in GAP else v for i, v in enumerate(VALUES)]
    scores = [
        score("expression", VALUES, unit="px"),
        score("ssim-face", holed, "higher"),
        score("pose-target", VALUES, unit="a unit that is long"),
        score("pose-target-yaw", VALUES),
        Score("jitter-ratio", "", "one", 1.1),
    ]
    write_report(folder / "report.html", evaluation(scores, FRAMES), {"target": folder / "target.png", **clips})
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser, address):
    """The page, freshly loaded on a desktop by day, with videos that are ready."""
    set_screen(browser, 1280, 900)
    set_scheme(browser, "light")
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what came before
    browser.get(address)
    ready = "return [...document.querySelectorAll('video')].every((video) => video.readyState === 4)"
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(ready))
    yield browser
    assert browser.get_log("browser") == []  # whatever was done with it


def set_screen(browser, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def set_scheme(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def times(browser):
    return browser.execute_script("return [...document.querySelectorAll('video')].map((video) => video.currentTime)")


def shown_greys(browser):
    """What the videos show, as the mean of each one's pixels."""
    return browser.execute_script("""
        return [...document.querySelectorAll("video")].map((video) => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
          const context = canvas.getContext("2d");
          context.drawImage(video, 0, 0, 8, 8);
          return context.getImageData(4, 4, 1, 1).data[0];
        });""")


def in_view(browser, selector, index=0):
    element = browser.find_elements("css selector", selector)[index]
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", element)
    time.sleep(0.2)  # scrolling closes what the pointer had opened
    return element


def point_at(browser, plot, frame):
    """Move the pointer to a frame of a curve."""
    half = plot.size["width"] / 2
    across = half * (2 * frame / (FRAMES - 1) - 1)
    inside = min(max(across, 2 - half), half - 2)
    ActionChains(browser).move_to_element_with_offset(plot, round(inside), 0).perform()


def test_no_request_leaves_the_page(page, address):
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert address in asked
    assert [url[:80] for url in asked if url != address and not url.startswith("data:")] == []


def test_every_curve_has_a_point_for_every_frame_that_was_measured(page):
    paths = page.execute_script("return [...document.querySelectorAll('.plot path')].map((p) => p.getAttribute('d'))")
    points = [path.count("M") + path.count("L") for path in paths]
    assert points == [FRAMES, FRAMES - len(GAP), FRAMES, FRAMES]
    assert [path.count("M") for path in paths] == [1, 2, 1, 1]  # a gap is not drawn over
    assert len(page.find_elements("css selector", "td path")) == 4  # and small, in the table


def test_a_curve_is_high_where_its_values_are(page):
    box = page.execute_script("""
        const path = document.querySelector(".plot path"), box = path.getBoundingClientRect();
        const plot = document.querySelector(".plot").getBoundingClientRect();
        const first = path.getPointAtLength(0), far = path.getPointAtLength(path.getTotalLength());
        return [first.y < far.y, box.width / plot.width, box.height / plot.height];""")
    assert box[0]  # 1.7 at the first frame, 0.461 at the last
    assert box[1] == pytest.approx(1, abs=0.02)
    assert box[2] > 0.8


@pytest.mark.parametrize("frame", [0, 23, FRAMES - 1])
def test_pointing_at_a_curve_shows_that_frame(page, frame):
    point_at(page, in_view(page, ".plot"), frame)
    text = page.find_element("css selector", ".peek").text
    assert f"frame {frame}, {frame / RATE:.2f} s" in text
    assert f"expression {VALUES[frame]:.4g} px" in text
    now = [element.text for element in page.find_elements("css selector", ".curve .now")[:2]]
    assert now == [f"{VALUES[frame]:.4g} px", f"{VALUES[frame]:.4g}"]
    thumbs = page.find_elements("css selector", ".peek .thumb")
    assert len(thumbs) == 3  # the target never changes
    for thumb in thumbs:
        pixels = np.asarray(Image.open(io.BytesIO(thumb.screenshot_as_png)).convert("L"))
        assert pixels[pixels.shape[0] // 2, pixels.shape[1] // 2] == pytest.approx(shade(frame), abs=4)


def test_a_frame_that_was_not_measured_says_so(page):
    point_at(page, in_view(page, ".plot", 1), GAP[1])
    assert "ssim-face not measured" in page.find_element("css selector", ".peek").text


def test_the_pointer_gone_the_frames_are_gone(page):
    plot = in_view(page, ".plot")
    point_at(page, plot, 20)
    peek = page.find_element("css selector", ".peek")
    assert peek.is_displayed()
    ActionChains(page).move_to_element(page.find_element("css selector", ".curve h3")).perform()
    assert not peek.is_displayed()


def test_the_keyboard_goes_from_frame_to_frame(page):
    plot = in_view(page, ".plot")
    page.execute_script("arguments[0].focus()", plot)
    ActionChains(page).send_keys("\ue010").send_keys("\ue012").perform()  # End, Left
    assert plot.get_attribute("aria-valuenow") == str(FRAMES - 2)
    assert f"frame {FRAMES - 2}" in page.find_element("css selector", ".peek").text


def test_the_worst_frames_button_takes_all_clips_there(page):
    button = in_view(page, "button.frame", 1)
    frame = int(button.get_attribute("data-frame"))
    assert frame == 40  # where ssim-face, the higher the better, is lowest
    button.click()
    WebDriverWait(page, 10).until(lambda b: all(abs(t - (frame + 0.5) / RATE) < 0.01 for t in times(b)))
    WebDriverWait(page, 10).until(lambda b: shown_greys(b) == pytest.approx([shade(frame)] * 3, abs=4))
    assert f"frame {frame}" in page.find_element("css selector", ".controls output").text


def test_the_clips_play_in_step_and_stop_at_one_frame(page):
    button = in_view(page, ".controls button")
    assert times(page) == [0, 0, 0]
    button.click()
    page.set_script_timeout(20)
    samples = page.execute_async_script("""
        const done = arguments[0], videos = [...document.querySelectorAll("video")], samples = [];
        const timer = setInterval(() => {
          samples.push(videos.map((video) => video.currentTime));
          if (samples.length === 25) { clearInterval(timer); done(samples); }
        }, 60);""")
    assert samples[-1][0] > samples[0][0] + 0.5
    apart = [max(sample) - min(sample) for sample in samples]
    assert max(apart) <= 1 / RATE
    button.click()
    WebDriverWait(page, 10).until(lambda b: len(set(times(b))) == 1)
    frame = int(page.find_element("css selector", ".controls input").get_attribute("value"))
    WebDriverWait(page, 10).until(lambda b: shown_greys(b) == pytest.approx([shade(frame)] * 3, abs=4))


def test_played_to_the_end_the_clips_begin_again(page):
    page.execute_script("document.querySelectorAll('video').forEach((video) => { video.currentTime = 2.3; })")
    in_view(page, ".controls button").click()
    WebDriverWait(page, 10).until(lambda b: 0 < times(b)[0] < 1.5)
    WebDriverWait(page, 10).until(lambda b: not any(v < 0.05 for v in times(b)))  # all of them
    page.find_element("css selector", ".controls button").click()


def test_nothing_is_wider_than_a_phone(page):
    set_screen(page, 375, 812)
    table = page.execute_script("return document.querySelector('table').getBoundingClientRect().width")
    assert table > 375  # and yet
    assert page.execute_script("return [document.documentElement.scrollWidth, innerWidth]") == [375, 375]
    point_at(page, in_view(page, ".plot"), 30)
    peek = page.find_element("css selector", ".peek").rect
    assert peek["x"] >= 0
    assert peek["x"] + peek["width"] <= 375


def test_dark_mode_changes_the_background(page):
    def lightness():
        colours = page.execute_script(
            "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        )
        return [sum(int(part) for part in colour[4:-1].split(",")) / 3 for colour in colours]

    paper, ink = lightness()
    assert paper > 200 > 60 > ink
    set_scheme(page, "dark")
    paper, ink = lightness()
    assert paper < 60 < 200 < ink


def test_pictures_make_a_page_without_a_player(browser, tmp_path):
    for name in ("driver", "output"):
        write_image(tmp_path / f"{name}.png", quarters(0, 64, 64))
    clips = {name: tmp_path / f"{name}.png" for name in ("driver", "output")}
    write_report(tmp_path / "report.html", evaluation([score("expression", [0.5])], 1), clips)
    browser.get_log("browser")
    browser.get((tmp_path / "report.html").as_uri())
    point_at(browser, in_view(browser, ".plot"), 0)
    assert "frame 0, 0.00 s" in browser.find_element("css selector", ".peek").text
    assert not browser.find_elements("css selector", "video, .controls")
    assert browser.get_log("browser") == []
