"""The page's figure and number formats, tried in the browser on fronts built by hand."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import cattrs
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from search.view import report_page
from search.wire.report import Front, Latency
from tests.search.view.test_report_page import HOSTILE, make_point

pytestmark = pytest.mark.browser
DRAW = """async ([front, width]) => {
    const { frontChart } = await import("/static/chart.js");
    const figure = frontChart("target", front);
    figure.id = "drawn";
    figure.style.width = `${width}px`;
    document.body.prepend(figure);
}"""
DOTS = """() => [...document.querySelectorAll("#drawn .mark")].map((mark) => {
    const box = mark.querySelector(".dot").getBoundingClientRect();
    return [mark.dataset.id, box.x + box.width / 2, box.y + box.height / 2];
})"""


def draw(page: Page, front: Front, width: int = 700) -> dict[str, tuple[float, float]]:
    """Draw the front; returns the centre of every mark in pixels, y downwards."""
    page.goto("/")
    page.evaluate(DRAW, [cattrs.unstructure(front), width])
    expect(page.locator("#drawn .mark")).to_have_count(1 + len(front.points))
    return {name: (x, y) for name, x, y in page.evaluate(DOTS)}


def make_front(*figures: tuple[float, float], best: str | None = None) -> Front:
    """Points p0, p1, ... at (latency in ms, accuracy), below a dense control at 4 ms and 92 %."""
    points = tuple(make_point(f"p{i}", latency_ms=ms, accuracy=accuracy) for i, (ms, accuracy) in enumerate(figures))
    return Front(make_point("dense", latency_ms=4.0, accuracy=0.92), points, best, "")


@pytest.mark.parametrize("width", [320, 900])
def test_marks_stand_where_their_figures_say(page: Page, width: int) -> None:
    """Pixel distances are proportional to distances in latency and accuracy, at any width."""
    at = draw(page, make_front((1.0, 0.85), (2.0, 0.90), (3.5, 0.91), best="p1"), width)
    x_scale = (at["dense"][0] - at["p0"][0]) / (4.0 - 1.0)
    y_scale = (at["p0"][1] - at["dense"][1]) / (0.92 - 0.85)
    assert x_scale > 0
    assert y_scale > 0
    # Half a pixel: browsers round boxes of shapes to fractions of a pixel.
    assert at["p1"][0] - at["p0"][0] == pytest.approx(x_scale * 1.0, abs=0.5)
    assert at["p2"][0] - at["p0"][0] == pytest.approx(x_scale * 2.5, abs=0.5)
    assert at["p0"][1] - at["p1"][1] == pytest.approx(y_scale * 0.05, abs=0.5)
    assert page.locator("#drawn .mark.best").get_attribute("data-id") == "p1"


def test_front_of_equal_figures_is_drawn(page: Page) -> None:
    """One point on top of the control, with intervals of no width, still gives finite places inside the figure."""
    front = make_front((4.0, 0.92))
    narrow = [
        dataclasses.replace(
            point,
            accuracy=dataclasses.replace(point.accuracy, low=0.92, high=0.92),
            latency_ms=dataclasses.replace(point.latency_ms, low=4.0, high=4.0),
        )
        for point in (front.dense, *front.points)
    ]
    at = draw(page, Front(narrow[0], (narrow[1],), None, ""))
    assert at["p0"] == pytest.approx(at["dense"], abs=0.5)
    box = page.locator("#drawn svg").bounding_box()
    assert box is not None
    assert box["x"] < at["p0"][0] < box["x"] + box["width"]
    assert box["y"] < at["p0"][1] < box["y"] + box["height"]


def test_front_without_points_shows_the_control(page: Page) -> None:
    """A search that found nothing leaves the dense control alone in the figure."""
    assert list(draw(page, make_front())) == ["dense"]


def test_hostile_point_name_is_only_text(page: Page) -> None:
    """Markup in a point's name is read out as text and makes no element."""
    front = make_front((2.0, 0.9))
    draw(page, Front(front.dense, (dataclasses.replace(front.points[0], id=HOSTILE),), HOSTILE, HOSTILE))
    page.locator("#drawn .mark.best").focus()
    expect(page.locator("#drawn .tip strong")).to_have_text(f"{HOSTILE}, best")
    assert page.locator("#drawn script, #drawn img").count() == 0


def test_tip_stays_inside_the_figure(page: Page) -> None:
    """The tip of the outermost points does not leave a narrow figure sideways."""
    draw(page, make_front((1.0, 0.85), (2.0, 0.90)), 320)
    for mark in page.locator("#drawn .mark").all():
        mark.focus()
        tip, figure = page.locator("#drawn .tip").bounding_box(), page.locator("#drawn").bounding_box()
        assert tip is not None
        assert figure is not None
        assert figure["x"] <= tip["x"]
        assert tip["x"] + tip["width"] <= figure["x"] + figure["width"] + 0.5


def test_short_latencies_are_in_microseconds(page: Page) -> None:
    """Below a tenth of a millisecond the figure has microseconds on its axis and stays in proportion."""
    front = make_front((1.0, 0.85), (2.5, 0.90))
    thousandth = [
        dataclasses.replace(p, latency_ms=Latency(p.latency_ms.value / 1000, 0.0005, 0.005, "modelled"))
        for p in (front.dense, *front.points)
    ]
    at = draw(page, Front(thousandth[0], tuple(thousandth[1:]), None, ""))
    expect(page.locator("#drawn .axis-title").first).to_have_text("Latency, \N{MICRO SIGN}s (modelled)")
    assert (at["p1"][0] - at["p0"][0]) / (at["dense"][0] - at["p0"][0]) == pytest.approx(0.5, abs=0.01)
    expect(page.locator("#drawn .mark").first).to_have_attribute(
        "aria-label", re.compile("4.00 \N{MICRO SIGN}s, modelled")
    )


def test_numbers_read_as_in_the_report(page: Page) -> None:
    """The page and the HTML report write every figure alike: two implementations, the same text."""
    rng = np.random.default_rng(0)
    fractions = [*rng.uniform(-0.2, 1, 50).tolist(), 0.0, -0.00001, 1.0]
    sizes = [*np.exp(rng.uniform(0, 24, 50)).astype(int).tolist(), 0, 999, 1000]
    latencies = [*np.exp(rng.uniform(-12, 9, 50)).tolist(), 0.0, 9.999, 1.0]
    expected: dict[str, list[Any]] = {
        "percent": [report_page._percent(value) for value in fractions],
        "points": [report_page._points(value) for value in fractions],
        "count": [report_page._count(value) for value in sizes],
        "fileSize": [report_page._filesize(value) for value in sizes],
        "digits3": [report_page._latency(value) for value in latencies],
    }
    given = {name: latencies if name == "digits3" else sizes for name in expected}
    given |= {"percent": fractions, "points": fractions}
    page.goto("/")
    script = """async (given) => {
        const format = await import("/static/format.js");
        return Object.fromEntries(Object.entries(given).map(([name, values]) => [name, values.map(format[name])]));
    }"""
    assert page.evaluate(script, given) == expected
