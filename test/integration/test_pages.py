# SPDX-License-Identifier: GPL-2.0-or-later
"""The formats that people look at in a browser: pointed at, clicked, searched, driven by keys."""

import re
import xml.etree.ElementTree as ET

import pytest

from browser import Browser
from harness import LEAK, leaks_of, wait_until

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    assert started.complaints() == []
    started.close()


def frames_of(tree):
    return [each for each in tree.iter(f"{SVG}svg") if each.get("class") == "frame"]


def shown_leaks(frames):
    """As leaks_of, from the titles of the frames."""
    sums = {}
    for frame in frames:
        title = frame.find(f"{SVG}title").text
        if (name := LEAK.match(title)) and name.group(1) != "leak_all":
            number, blocks = re.search(r"\(([\d,]+) bytes\) in ([\d,]+) block", title).groups()
            total = sums.setdefault(name.group(1), {"bytes": 0, "blocks": 0})
            total["bytes"] += int(number.replace(",", ""))
            total["blocks"] += int(blocks.replace(",", ""))
    return sums


def assert_asks_for_nothing(text):
    """All that it needs is in the file: no address, no import."""
    text = re.sub(r"http://www\.w3\.org/(2000/svg|1999/xhtml)", "", text)
    assert re.findall(r"\w+://|@import|\b(?:src|href)\s*=|url\(|fetch\(|XMLHttp", text) == []


def test_svg_shows_by_itself_what_leaks(written):
    text = written.read("svg").decode()
    assert_asks_for_nothing(text)
    frames = frames_of(ET.fromstring(text))
    assert shown_leaks(frames) == leaks_of(written.summary)
    leaks = [frame for frame in frames if frame.find(f"{SVG}text").text == "leak_malloc"]
    part = 30000 / written.summary["expired"]["bytes"]
    assert sum(float(frame.get("width").rstrip("%")) for frame in leaks) \
        == pytest.approx(100 * part, abs=0.001)


FRAME = """return Array.from(document.querySelectorAll("svg.frame"))
    .find((frame) => frame.querySelector("text").textContent === arguments[0])"""


class Graph:
    """A flame graph in the browser."""

    def __init__(self, browser):
        self.browser = browser

    def element(self, name):
        return self.browser.run(FRAME, name)

    def frame(self, name):
        return self.browser.run("""const frame = arguments[0];
            return {x: parseFloat(frame.getAttribute("x")), classes: Array.from(frame.classList),
                    width: parseFloat(frame.getAttribute("width")),
                    shown: frame.style.display !== "none"}""", self.element(name))

    def details(self):
        return self.browser.run("return document.getElementById('details').textContent")

    def matched(self):
        return self.browser.run("return document.getElementById('matched').textContent")

    def is_zoomed(self, name):
        frame = self.frame(name)
        return frame["shown"] and frame["x"] == 0 and frame["width"] == 100


@pytest.fixture
def svg(browser, written):
    browser.open(written.path("svg"))
    return Graph(browser)


def test_svg_tells_what_is_pointed_at(svg):
    svg.browser.point_at(svg.element("leak_calloc"))
    assert re.search(r"^leak_calloc — 29\.3 KiB \(30,000 bytes\) in 30 blocks, \d+\.\d% — "
                     r".*each_function\.c:\d+ \(each_function\)$", svg.details())


def test_svg_zooms_by_click_and_resets(svg):
    before = svg.frame("leak_calloc")
    assert before["width"] < 20
    svg.browser.click_at(svg.element("leak_calloc"))
    assert svg.is_zoomed("leak_calloc") and svg.is_zoomed("main") and svg.is_zoomed("calloc")
    assert "above" in svg.frame("main")["classes"]
    assert "above" not in svg.frame("calloc")["classes"]
    assert not svg.frame("leak_malloc")["shown"]
    svg.browser.click("#reset")
    assert svg.frame("leak_calloc")["width"] == pytest.approx(before["width"], abs=0.001)
    assert svg.frame("leak_calloc")["classes"] == ["frame"]
    assert svg.frame("leak_malloc")["shown"]


def test_svg_searches(svg):
    svg.browser.type("#search", "LEAK_C")
    assert "found" in svg.frame("leak_calloc")["classes"]
    assert "found" not in svg.frame("leak_malloc")["classes"]
    assert re.fullmatch(r"1 found: \d+\.\d%", svg.matched())
    svg.browser.press("Escape")
    assert svg.matched() == "" and "found" not in svg.frame("leak_calloc")["classes"]
    svg.browser.type("#search", "each_function.c")  # a function and what it calls count once
    share = float(re.search(r"(\d+\.\d)%", svg.matched()).group(1))
    assert 90 < share <= 100


def test_svg_obeys_keys(svg):
    browser = svg.browser
    browser.press("/")
    assert browser.run("return document.activeElement.id") == "search"
    browser.press("l", "Escape")
    assert browser.run("return document.getElementById('search').value") == ""
    browser.press("ArrowDown")
    first = svg.details()
    browser.press("ArrowDown", "ArrowUp")
    assert svg.details() == first != ""
    wait_until(lambda: browser.press("ArrowDown") or "leak_all" in svg.details(), "leak_all")
    browser.press("ArrowDown")
    name = LEAK.match(svg.details()).group(1)
    browser.press("ArrowRight")
    other = LEAK.match(svg.details()).group(1)
    assert other != name
    browser.press("ArrowLeft", "Enter")
    assert svg.is_zoomed(name) and not svg.frame(other)["shown"]
    browser.press("Backspace")
    assert svg.frame(other)["shown"] and not svg.is_zoomed(name)
    browser.press("Escape")
    assert svg.details() == ""
