# SPDX-License-Identifier: GPL-2.0-or-later
"""The formats that people look at in a browser: pointed at, clicked, searched, driven by keys."""

import json
import re
import xml.etree.ElementTree as ET

import pytest

from browser import Browser
from harness import LEAK, leaks_of, wait_until

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = Browser(tmp_path_factory.mktemp("chromium"))
    try:
        yield started
        assert started.complaints() == []
    finally:
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


class Page(Graph):
    """The page in the browser."""

    def titles(self):
        return self.browser.run("""return Array.from(
            document.querySelectorAll("svg.frame > title"), (title) => title.textContent)""")

    def rows(self):
        """{column: text} of each row; columns of one name are told apart by their place."""
        return self.browser.run("""const names = Array.from(
                document.querySelectorAll("#head button"), (button) => button.dataset.key);
            return Array.from(document.querySelectorAll("tr.stack"), (row) => Object.fromEntries(
                Array.from(row.cells, (cell, index) => [names[index], cell.textContent])))""")

    def choose(self, selector, value):
        """Sets a field, as a person's choice would."""
        self.browser.run("""const field = document.querySelector(arguments[0]);
            field.value = arguments[1];
            field.dispatchEvent(new Event("input"))""", selector, value)

    def series(self):
        return self.browser.run("""return Object.fromEntries(Array.from(
            document.querySelectorAll("#plot polyline"), (line) =>
            [line.dataset.name, line.getAttribute("points").split(" ").length]))""")


@pytest.fixture
def page(browser, written):
    browser.open(written.path("html"))
    return Page(browser)


def test_page_asks_for_nothing(written):
    assert_asks_for_nothing(written.read("html").decode())


def test_page_has_the_stacks_and_the_graph(page, written):
    expired = [stack for stack in written.summary["stacks"] if stack["expired_blocks"]]
    rows = page.rows()
    assert sorted(int(row["id"]) for row in rows) == sorted(stack["id"] for stack in expired)
    assert sum(row["asking"].startswith("leak_") for row in rows) >= 9
    leaks = [title for title in page.titles()
             if LEAK.match(title) and not title.startswith("leak_all")]
    assert len(leaks) == 9
    assert all("(30,000 bytes) in 30 blocks" in title for title in leaks)
    head = page.browser.run("return document.getElementById('title').textContent")
    assert head.endswith(f"each_function (PID {written.summary['pid']})")
    assert "Expired: 264 KiB in 27" in page.browser.run("return document.body.innerText")


def test_page_sorts_and_opens_stacks(page):
    page.browser.click('#head button[data-key="asking"]')
    names = [row["asking"] for row in page.rows()]
    assert names == sorted(names, key=str.lower)
    page.browser.click('#head button[data-key="asking"]')
    assert [row["asking"] for row in page.rows()] == names[::-1]
    page.browser.click("tr.stack")
    frames = page.browser.run("return document.querySelector('tr.frames').innerText")
    assert "main" in frames and "each_function.c:" in frames
    page.browser.press("Enter")  # the row has the focus
    assert page.browser.run("return document.querySelectorAll('tr.frames').length") == 0


def test_page_filters_table_and_graph(page):
    page.browser.type("#filter", "leak_c")
    assert [row["asking"].split()[0] for row in page.rows()] == ["leak_calloc"]
    assert [title.split("\n")[0] for title in page.titles() if LEAK.match(title)] \
        == ["leak_all", "leak_calloc"]
    page.browser.run("document.getElementById('filter').value = ''")
    page.choose("#least", "100")
    assert page.rows() == []
    assert page.browser.run("return document.getElementById('empty').hidden") is False
    page.choose("#least", "0")
    assert len(page.rows()) >= 9


def test_page_filters_by_growth_and_late_frees(browser, written, tmp_path):
    """With other data than the watch happened to give."""
    before, data, after = re.fullmatch(r'(.*id="data">)(.*?)(</script>.*)',
                                       written.read("html").decode(), re.DOTALL).groups()
    data = json.loads(data)
    shrinking, freed, other = (stack for stack in data["report"]["stacks"][:3])
    shrinking["delta_bytes"] = -5
    freed["late_frees"] = 3
    data["left_out"]["stacks"] = 17
    data["report"]["suppressed"] = {"bytes": 2048, "blocks": 3, "stacks": 5}
    path = tmp_path / "page.html"
    path.write_text(before + json.dumps(data).replace("<", "\\u003c") + after, encoding="utf-8")
    browser.open(path)
    page = Page(browser)

    def shown():
        return {int(row["id"]) for row in page.rows()} & {shrinking["id"], freed["id"], other["id"]}
    assert shown() == {shrinking["id"], freed["id"], other["id"]}
    browser.click("#growing")
    assert shown() == {freed["id"], other["id"]}
    browser.click("#kept")
    assert shown() == {other["id"]}
    browser.click("#growing")
    assert shown() == {shrinking["id"], other["id"]}
    told = browser.run("return document.getElementById('when').textContent")
    assert "17 smaller stacks" in told
    assert "2.00 KiB expired are suppressed (stacks: 5)" in told


def test_page_filters_by_verdict(browser, written, tmp_path):
    before, data, after = re.fullmatch(r'(.*id="data">)(.*?)(</script>.*)',
                                       written.read("html").decode(), re.DOTALL).groups()
    data = json.loads(data)
    chosen = data["report"]["stacks"][1]
    chosen.update(verdict="slow", reason="try -e <45s>", growth_bytes_per_minute=-2048)
    path = tmp_path / "page.html"
    path.write_text(before + json.dumps(data).replace("<", "\\u003c") + after, encoding="utf-8")
    browser.open(path)
    page = Page(browser)
    assert len(page.rows()) > 1
    page.choose("#verdict", "slow")
    row, = page.rows()
    assert (int(row["id"]), row["verdict"]) == (chosen["id"], "slow")
    assert row["growth_bytes_per_minute"] == "-2.00 KiB"
    browser.click("tr.stack")
    assert "slow: try -e <45s>" in browser.run(
        "return document.querySelector('tr.frames').innerText")
    page.choose("#verdict", "leak")
    assert page.rows() == []


def test_page_tells_of_marked_blocks(browser, written, tmp_path):
    before, data, after = re.fullmatch(r'(.*id="data">)(.*?)(</script>.*)',
                                       written.read("html").decode(), re.DOTALL).groups()
    data = json.loads(data)
    assert "mark" not in data["report"]
    browser.open(written.path("html"))
    assert browser.run("return document.getElementById('marked').hidden") is True
    data["report"]["mark"] = {"from_s": 2.5, "to_s": 12.5, "open": False,
                              "allocated": {"bytes": 4096, "blocks": 40},
                              "live": {"bytes": 1024, "blocks": 7}}
    path = tmp_path / "page.html"
    path.write_text(before + json.dumps(data).replace("<", "\\u003c") + after, encoding="utf-8")
    browser.open(path)
    assert browser.run("return document.getElementById('marked').innerText") == \
        "Marked, from 2.5s to 12.5s: 4.00 KiB in 40 blocks; still live: 1.00 KiB in 7 blocks, 25%"


def test_page_changes_the_width(page):
    page.browser.run("document.querySelector('#weight').focus()")
    page.choose("#weight", "live-blocks")
    width = page.frame("leak_calloc")["width"]
    assert width == pytest.approx(100 * 30 / 270, abs=1)
    page.browser.click_at(page.element("leak_calloc"))
    assert page.is_zoomed("leak_calloc")
    page.browser.press("Escape")
    assert page.frame("leak_malloc")["shown"]
    page.browser.type("#search", "leak_calloc")
    assert page.matched().startswith("1 found: 11.")


def test_page_plots_growth(page, written):
    reports = len(written.reports)
    assert page.series() == {"live": reports + 1, "expired": reports + 1, "RSS": reports}
    page.browser.click("#plot-rss")
    assert set(page.series()) == {"live", "expired"}
    page.browser.point_at(page.browser.run("return document.getElementById('plot')"))
    assert re.match(r"At \d+\.\ds: live [\d.]+ \w+, expired [\d.]+ \w+$",
                    page.browser.run("return document.getElementById('note').textContent"))
