"""The HTML report and its figures, on reports built by hand."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from search.view import report_page
from search.view.group_plot import groups_svg
from search.view.plots import front_svg, fronts_svg
from search.wire.report import (
    Accuracy,
    DataUse,
    Front,
    FrozenGroup,
    Latency,
    LayerChange,
    OutputUse,
    Point,
    PrunableGroup,
    Report,
)

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }} $\\frac{ \x1b[31m \U0001f600'
SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "img", "br", "hr", "input", "link"}


class _Page(HTMLParser):
    """What a browser would see: tags with attributes, the text of each element, and whether tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.texts.append(" ".join(data.split()))


def make_point(name: str, *, latency_ms: float, accuracy: float, dense_ms: float = 4.0, kept: int = 16) -> Point:
    """A consistent point: ratios follow from the figures given."""
    latency = Latency(latency_ms, 0.95 * latency_ms, 1.05 * latency_ms, "measured")
    return Point(
        id=name,
        profile="host",
        accuracy=Accuracy(accuracy, accuracy - 0.01, accuracy + 0.01, accuracy - 0.92, -0.02, 0.005, 2000, "top1"),
        latency_ms=latency,
        predicted_latency_ms=dataclasses.replace(latency, kind="modelled"),
        speedup=dense_ms / latency_ms,
        predicted_speedup=dense_ms / latency_ms,
        parameters=272_474,
        macs=41_234_567,
        bytes=1_090_000,
        peak_memory_bytes=1_300_000,
        compression_ratio=1.5,
        theoretical_speedup=2.0,
        layers=(LayerChange("conv1", "Conv", 32, kept, 3, 3),),
        blocks=(),
        artifact=f"points/host/{name}.onnx",
        sha256="ab" * 32,
        parity=3e-7,
    )


def make_report(*fronts: tuple[str, Front]) -> Report:
    """A report over the given fronts."""
    return Report(
        headline="2.00x as fast at -0.4 points",
        fronts=dict(fronts),
        data=DataUse("labelled", 256, 512, 2000),
        groups=(PrunableGroup("g0", "channel", 32, 900, ("conv1", "conv2")),),
        frozen=(FrozenGroup("head", "it is the output of the network"),),
        warnings=("one warning",),
        seed=7,
        stage_s={"search": 1.25},
    )


@pytest.fixture
def front() -> Front:
    """Two points and their dense control; the faster one is best."""
    points = (make_point("p1", latency_ms=2.0, accuracy=0.916), make_point("p2", latency_ms=3.0, accuracy=0.919))
    return Front(make_point("dense", latency_ms=4.0, accuracy=0.92, kept=32), points, "p1", "fastest within one point")


def svg_text(svg: str) -> str:
    """All text drawn in an SVG document."""
    return " ".join("".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text"))


def test_page_states_the_figures_of_every_point(front: Front) -> None:
    """Headline, accuracy, latency with its kind, and ratios stand in the page as formatted by hand."""
    texts = _Page(report_page.render(make_report(("host", front)))).texts
    for expected in (
        "2.00x as fast at -0.4 points",
        "91.60 %",
        "\N{MINUS SIGN}0.40",
        "2.00",
        "measured",
        "41.23 M",
        "1.09 MB",
    ):
        assert expected in texts, expected
    assert "16 of 32" in texts, "the layers of best"
    assert "it is the output of the network" in texts


@pytest.mark.parametrize(("training", "said"), [(256, False), (4000, True)])
def test_page_counts_the_samples_that_training_adds(front: Front, training: int, said: bool) -> None:
    """Calibration is part of what is learned from, so the count stands there only where it is another one."""
    report = dataclasses.replace(make_report(("host", front)), data=DataUse("labelled", 256, 512, 2000, training))
    texts = _Page(report_page.render(report)).texts
    assert (f"{training} samples, those of calibration among them" in texts) == said


def test_page_says_what_each_output_is_judged_by(front: Front) -> None:
    """Every output by name, escaped, with its judge in words."""
    outputs = (OutputUse("sizes<b>", "nothing"), OutputUse("boxes", "r2"))
    data = dataclasses.replace(make_report(("host", front)).data, outputs=outputs)
    texts = _Page(report_page.render(dataclasses.replace(make_report(("host", front)), data=data))).texts
    assert "sizes<b>" in texts
    assert "boxes" in texts
    assert any("says nothing of the weights" in text for text in texts)
    assert any("is judged by R²" in text for text in texts)


def test_page_needs_nothing_else(front: Front) -> None:
    """No script and nothing from anywhere: every reference points into the page itself."""
    html = report_page.render(make_report(("host", front)))
    page = _Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    references = [v for _, attributes in page.tags for k, v in attributes.items() if k in {"src", "href", "xlink:href"}]
    assert references, "figures refer to their own markers"
    assert all(reference is not None and reference.startswith("#") for reference in references)
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_ids_are_unique_with_several_fronts(front: Front) -> None:
    """Two targets with equal figures do not share element ids in one page."""
    page = _Page(report_page.render(make_report(("host", front), ("phone", front))))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert ids
    assert len(ids) == len(set(ids))


def test_hostile_names_are_only_text(front: Front) -> None:
    """A name made of markup, template code, mathematics and control characters adds no element anywhere."""
    evil = dataclasses.replace(
        front.points[0], id=HOSTILE, artifact=HOSTILE, layers=(LayerChange(HOSTILE, HOSTILE, 4, 2, 4, 4),)
    )
    hostile = Report(
        headline=HOSTILE,
        fronts={HOSTILE: Front(front.dense, (evil,), HOSTILE, HOSTILE)},
        data=DataUse("data-free", 0, 0, 0),
        groups=(PrunableGroup(HOSTILE, "channel", 1, 1, (HOSTILE,)),),
        frozen=(FrozenGroup(HOSTILE, HOSTILE),),
        warnings=(HOSTILE,),
        seed=0,
        stage_s={HOSTILE: 0.0},
    )
    page = _Page(report_page.render(hostile))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert any("<script>alert(1)</script>" in text and "{{ 7*7 }}" in text for text in page.texts)
    assert not page.open
    assert "$\\frac{" in svg_text(fronts_svg(hostile))


def test_single_point_front_without_best(front: Front) -> None:
    """One point, no best, equal bounds: the page says that nothing is marked best and why."""
    alone = Front(front.dense, front.points[1:], None, "nothing is within 0.1 points")
    texts = _Page(report_page.render(make_report(("host", alone)))).texts
    assert "No point is marked best:" in texts
    assert "nothing is within 0.1 points." in texts
    assert "best:" not in svg_text(front_svg(alone, title="host"))


def test_empty_front_and_partial_report_still_render(front: Front) -> None:
    """A job stopped before its first point gives a page that says so, with the dense control drawn."""
    stopped = dataclasses.replace(make_report(("host", Front(front.dense, (), None, "stopped"))), complete=False)
    assert "This front is partial." in _Page(report_page.render(stopped)).texts
    assert "dense (control)" in svg_text(fronts_svg(stopped))


def test_figures_are_deterministic(front: Front) -> None:
    """The same front twice gives the same bytes, and no date is written."""
    first = front_svg(front, title="host")
    assert first == front_svg(front, title="host")
    assert "<dc:date>" not in first
    assert fronts_svg(make_report(("host", front))) == fronts_svg(make_report(("host", front)))


def test_figure_says_what_it_shows(front: Front) -> None:
    """Axes carry the metric, the unit and the kind of latency; dense and best are in the legend."""
    text = svg_text(front_svg(front, title="host-cpu"))
    for expected in ("host-cpu", "Top-1 accuracy, %", "Latency, ms (measured)", "dense (control)", "best: p1"):
        assert expected in text, expected


def test_short_latencies_are_in_microseconds(front: Front) -> None:
    """Below a tenth of a millisecond figure and table switch to microseconds: 0.004 ms is 4.00 there."""
    short = dataclasses.replace(front.dense, latency_ms=Latency(0.004, 0.002, 0.008, "modelled"))
    tiny = Front(short, (), None, "none")
    assert "Latency, \N{MICRO SIGN}s (modelled)" in svg_text(front_svg(tiny, title="host"))
    texts = _Page(report_page.render(make_report(("host", tiny)))).texts
    assert "Latency, \N{MICRO SIGN}s" in texts
    assert "4.00" in texts
    assert "2.00 to 8.00" in texts


def test_one_panel_a_target(front: Front) -> None:
    """The combined figure names every target once."""
    text = svg_text(fronts_svg(make_report(("host", front), ("phone", front))))
    assert text.count("host") == 1
    assert text.count("phone") == 1


def test_groups_are_drawn_in_the_order_of_the_network() -> None:
    """One column a group, twice, as high as its share of the largest; a hatched one for what is frozen, with its reason."""
    groups = [PrunableGroup(f"g{i}", "channel", units, 10 * units, ("a", "b")) for i, units in enumerate((16, 64, 32))]
    drawn = ET.fromstring(groups_svg(groups, [FrozenGroup("last", "it is an output")]))
    columns = [rect for rect in drawn.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    heights = [float(rect.attrib["height"]) for rect in columns]
    largest = max(heights)
    assert [height / largest for height in heights] == pytest.approx([0.25, 1, 0.5, 0.25, 1, 0.5, 1], rel=0.01)
    assert [float(rect.attrib["x"]) for rect in columns[:3]] == sorted(float(r.attrib["x"]) for r in columns[:3])
    titles = ["".join(rect.itertext()) for rect in columns]
    assert titles[1] == "g1: 64 channels, 640 parameters can go, 2 nodes"
    assert titles[-1] == "last: frozen, it is an output"
