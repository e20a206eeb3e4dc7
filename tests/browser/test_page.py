"""The page, driven in a real browser against a real service: from the upload to a downloaded model."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

import onnx
import onnxruntime
import pytest
import requests
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.browser
# A target that is modelled, not timed: the host's own profile would be calibrated first, which takes a minute.
TARGET = "a100-tensorrt-fp16"
JOB_MS = 240_000
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def choose_only(page: Page, target: str) -> None:
    """Tick one target and no other."""
    expect(page.locator("[name=profile]")).not_to_have_count(0)
    for box in page.locator("[name=profile]").all():
        box.set_checked(box.get_attribute("value") == target)


def start_job(page: Page, model: Path, dataset: Path | None) -> str:
    """Fill the form, start the job, wait until it is in view; returns its id."""
    page.goto("/")
    page.get_by_label("Model", exact=True).set_input_files(model)
    if dataset is not None:
        page.get_by_label("Data set").set_input_files(dataset)
    choose_only(page, TARGET)
    page.get_by_text("More settings").click()
    page.get_by_label("Points on a front").fill("4")
    page.get_by_label("Points wanted at").fill("1.1, 500")
    page.get_by_role("button", name="Start pruning").click()
    page.wait_for_url(re.compile("#job="), timeout=30_000)
    expect(page.locator("#job-view h2")).to_be_focused()
    return page.url.split("#job=")[1]


@pytest.fixture(scope="session")
def finished_job(service: str, model: Path, dataset: Path) -> str:
    """Id of a job that succeeded, made over HTTP."""
    ids = {}
    for purpose, path in (("model", model), ("dataset", dataset)):
        with path.open("rb") as file:
            answer = requests.post(f"{service}/v1/files", data={"purpose": purpose}, files={"file": file}, timeout=30)
        answer.raise_for_status()
        ids[purpose] = answer.json()["id"]
    body = {**ids, "profiles": [TARGET], "search": {"points": 4}}
    job = requests.post(f"{service}/v1/jobs", json=body, timeout=30).json()
    return str(job["id"])


def expect_success(page: Page) -> None:
    """Wait until the job in view has ended, and well; a failed one is told at once, with its problem."""
    expect(page.locator("#job-view .pill")).to_have_text(re.compile("succeeded|failed|cancelled"), timeout=JOB_MS)
    expect(page.locator("#job-view .problem")).to_have_count(0)
    expect(page.locator("#job-view .pill")).to_have_text("succeeded")


def open_front(page: Page, job: str) -> None:
    """Show the front of a job, waiting until the job has one."""
    page.goto(f"/#job={job}")
    expect_success(page)
    expect(page.locator("#job-view svg .mark").first).to_be_visible()


def test_from_upload_to_download(page: Page, service: str, model: Path, dataset: Path, tmp_path: Path) -> None:
    """A person uploads, watches stages and progress, sees the front, and downloads files with the stated SHA-256."""
    job = start_job(page, model, dataset)
    expect(page.locator("#job-view progress")).to_be_visible()
    expect_success(page)
    expect(page.locator("#job-view")).to_contain_text(re.compile(r"no point is .*\b500 times as fast as dense"))
    page.get_by_text("Events", exact=True).click()
    for stage in ("import", "search", "evaluate"):
        expect(page.locator(".log")).to_contain_text(f"stage: {stage}")

    front = requests.get(f"{service}/v1/jobs/{job}/front", timeout=10).json()[TARGET]
    expect(page.locator("#job-view svg .mark")).to_have_count(1 + len(front["points"]))
    expect(page.locator("#job-view tbody tr")).to_have_count(1 + len(front["points"]))
    for point in front["points"]:
        row = page.locator(f'tr[data-point="{point["id"]}"]')
        expect(row).to_contain_text(f"{100 * point['accuracy']['value']:.2f} %")
        with page.expect_download() as download:
            row.get_by_role("link").click()
        path = tmp_path / f"{point['id']}.onnx"
        download.value.save_as(path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == point["sha256"]
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_figure_is_reached_and_read_by_keyboard(page: Page, finished_job: str) -> None:
    """Every point has its figures as its name; Tab moves on; the tip opens on focus, Escape shuts it."""
    open_front(page, finished_job)
    marks = page.locator("#job-view svg .mark")
    expect(marks.first).to_have_attribute(
        "aria-label", re.compile(r"^dense, the control: [\d.]+ % .* (ms|µs), modelled")
    )
    marks.first.focus()
    expect(page.locator(".tip")).to_contain_text("dense, the control")
    page.keyboard.press("Tab")
    expect(marks.nth(1)).to_be_focused()
    assert marks.nth(1).locator(".ring").evaluate("e => getComputedStyle(e).stroke") != "none", "the focus is visible"
    page.keyboard.press("Escape")
    expect(page.locator(".tip")).to_be_hidden()


def test_targets_are_found_by_words(page: Page) -> None:
    """Of the many targets those with every word stay in view, and the chosen one whatever the words are."""
    page.goto("/")
    expect(page.locator("[name=profile]")).not_to_have_count(0)
    page.get_by_label("Show targets with").fill("raspi4 cpu")
    shown = page.locator("[name=profile]:visible")
    expect(shown).to_have_count(2)
    assert {box.get_attribute("value") for box in shown.all()} == {"host-cpu-onnxruntime", "raspi4-cpu-tflite-fp32"}
    page.get_by_label("Show targets with").fill("")
    expect(shown).to_have_count(page.locator("[name=profile]").count())


def test_job_is_made_by_keyboard_only(page: Page, model: Path) -> None:
    """With keys alone: skip link, files, targets, objective and submit are reached in order, and the job starts."""
    page.on("filechooser", lambda chooser: chooser.set_files(model))
    page.goto("/")
    expect(page.locator("[name=profile]")).not_to_have_count(0)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Model", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".drop-text").first).to_have_text(model.name)
    targets = page.locator("[name=profile]")
    for box in targets.all():
        box.focus()
        if box.is_checked() != (box.get_attribute("value") == TARGET):
            page.keyboard.press("Space")
    targets.last.focus()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Fastest, losing at most")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#max_latency_ms")).to_be_enabled()
    expect(page.locator("#max_accuracy_drop")).to_be_disabled()
    page.keyboard.press("Tab")
    page.keyboard.type("5")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#job="), timeout=30_000)
    cancel = page.get_by_role("button", name="Cancel job")
    cancel.focus()
    expect(page.locator("#job-view .pill")).to_have_text("running", timeout=60_000)
    expect(cancel).to_be_focused()  # whatever the status became meanwhile
    page.keyboard.press("Enter")
    expect(page.locator("#job-view .pill")).to_have_text("cancelled", timeout=30_000)


def test_progress_without_event_stream(page: Page, finished_job: str) -> None:
    """Where server-sent events do not exist the page polls and shows the same events."""
    page.add_init_script("delete globalThis.EventSource")
    open_front(page, finished_job)
    page.get_by_text("Events", exact=True).click()
    expect(page.locator(".log")).to_contain_text("status: succeeded")


def test_first_look_says_what_is_within_reach(page: Page, model: Path) -> None:
    """A dry run shows the latency now and within reach on each chosen target, and starts no job."""
    page.goto("/")
    page.get_by_label("Model", exact=True).set_input_files(model)
    choose_only(page, TARGET)
    page.get_by_role("button", name="Look first").click()
    expect(page.locator("#inspect-title")).to_be_focused(timeout=90_000)
    expect(page.locator("#inspect")).to_contain_text(
        re.compile(r"Now [\d.]+ (ms|µs) \(modelled.*Within reach: [\d.]+ (ms|µs)")
    )
    assert "#job=" not in page.url


def test_problem_is_shown_and_announced(page: Page, tmp_path: Path) -> None:
    """A picture called .onnx ends in title and detail of the problem, in an alert or in the failed job."""
    picture = tmp_path / "picture.onnx"
    picture.write_bytes(PNG)
    page.goto("/")
    page.get_by_label("Model", exact=True).set_input_files(picture)
    choose_only(page, TARGET)
    page.get_by_role("button", name="Start pruning").click()
    problem = page.locator(".problem.shown")
    expect(problem).to_be_visible(timeout=60_000)
    expect(problem).to_contain_text("The model is not usable")
    expect(problem).to_contain_text("invalid-model")


def test_at_least_one_target_is_asked_for(page: Page, model: Path) -> None:
    """Without a target nothing is sent; the first box says what is missing."""
    page.goto("/")
    page.get_by_label("Model", exact=True).set_input_files(model)
    choose_only(page, "none of them")
    page.get_by_role("button", name="Start pruning").click()
    message = page.locator("[name=profile]").first.evaluate("e => e.validationMessage")
    assert message == "Choose at least one target."
    assert "#job=" not in page.url


def test_hostile_file_name_is_only_text(page: Page, model: Path, tmp_path: Path) -> None:
    """A file name made of markup is shown as it is, in the form, in the job and in the list."""
    name = "<img src=x onerror=alert(1)>.onnx"
    hostile = tmp_path / name
    hostile.write_bytes(model.read_bytes())
    start_job(page, hostile, None)
    expect(page.locator("#job-view h2")).to_have_text(name)
    expect(page.locator("#jobs .job-name").first).to_have_text(name)
    assert page.locator("main img").count() == 0
    page.get_by_role("button", name="Cancel job").click()
    expect(page.locator("#job-view .pill")).to_have_text("cancelled", timeout=30_000)


def test_nothing_is_loaded_from_elsewhere(page: Page, service: str, finished_job: str) -> None:
    """Both pages ask only their own origin, under a policy that allows no inline script or style."""
    hosts = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    open_front(page, finished_job)
    page.goto("/docs")
    expect(page.locator("article").first).to_be_visible()
    assert hosts == {urlsplit(service).netloc}
    policy = requests.get(f"{service}/", timeout=10).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_fits_a_narrow_screen(page: Page, finished_job: str) -> None:
    """At 360 px nothing but tables scrolls sideways, and the text of the figure keeps its size."""
    page.set_viewport_size({"width": 360, "height": 740})
    open_front(page, finished_job)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    svg = page.locator("#job-view svg").first
    assert svg.evaluate("e => e.getBoundingClientRect().width / e.viewBox.baseVal.width") == pytest.approx(1)
    page.goto("/docs")
    expect(page.locator("article").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(page: Page, scheme: str) -> None:
    """Text reaches 4.5 to 1 and edges of controls 3 to 1 (WCAG 2.2) against what they stand on, in both schemes."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto("/")
    names = ["ink", "muted", "green", "best", "dense", "red", "amber", "edge", "on-green", "paper", "ground", "sunken"]
    names += ["green-soft", "best-soft", "red-soft", "amber-soft"]
    script = "names => names.map(n => getComputedStyle(document.documentElement).getPropertyValue('--' + n).trim())"
    colour = dict(zip(names, page.evaluate(script, names), strict=True))
    pairs = [("ink", "paper"), ("ink", "ground"), ("muted", "paper"), ("muted", "ground"), ("muted", "sunken")]
    pairs += [("green", "paper"), ("green", "green-soft"), ("on-green", "green"), ("best", "best-soft")]
    pairs += [("muted", "best-soft"), ("red", "red-soft"), ("amber", "amber-soft"), ("muted", "green-soft")]
    too_low = {pair: contrast(colour[pair[0]], colour[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in too_low.items() if ratio < 4.5} == {}
    assert contrast(colour["edge"], colour["paper"]) >= 3
    assert contrast(colour["dense"], colour["paper"]) >= 3


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two #rrggbb colours."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """WCAG 2.2 relative luminance of a #rrggbb colour."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_control_has_a_name(page: Page) -> None:
    """No input, button or link is without an accessible name."""
    page.goto("/")
    expect(page.locator("[name=profile]")).not_to_have_count(0)
    page.get_by_text("More settings").click()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, button, a, summary")].filter((e) =>
            !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim())).map((e) => e.outerHTML)"""
    )
    assert nameless == []


def test_api_page_lists_every_operation(page: Page, service: str) -> None:
    """The API page has one entry for every method of every path in openapi.json, each with a curl line."""
    api = requests.get(f"{service}/openapi.json", timeout=10).json()
    methods = {"get", "put", "post", "patch", "delete", "head", "options"}
    expected = sorted(
        f"{method.upper()}{path}" for path, item in api["paths"].items() for method in methods & set(item)
    )
    page.goto("/docs")
    expect(page.locator("h2.route")).to_have_count(len(expected))
    assert sorted("".join(text.split()) for text in page.locator("h2.route").all_text_contents()) == expected
    assert all("curl" in text for text in page.locator("article pre").all_text_contents())


def test_a_model_of_two_files(page: Page, service: str, model: Path, tmp_path: Path) -> None:
    """Chosen together they are one model: looked at, pruned, and each result is downloaded with its weights."""
    large, data = tmp_path / "two.onnx", tmp_path / "two.onnx.data"
    network = onnx.load(model)
    onnx.save_model(network, str(large), save_as_external_data=True, location=data.name, size_threshold=64)
    page.goto("/")
    field = page.get_by_label("Model", exact=True)
    field.set_input_files([data, model, large])
    assert not field.evaluate("field => field.checkValidity()"), "two networks are no model"
    field.set_input_files([data, large])
    expect(page.locator(".drop-text").first).to_have_text("two.onnx.data, two.onnx")
    choose_only(page, TARGET)
    page.get_by_role("button", name="Look first").click()
    expect(page.locator("#inspect-title")).to_have_text("A first look at two.onnx", timeout=60_000)
    page.get_by_role("button", name="Start pruning").click()
    page.wait_for_url(re.compile("#job="), timeout=30_000)
    expect(page.locator("#job-view h2")).to_have_text("two.onnx")
    expect_success(page)
    row = page.locator('tr[data-point="dense"]')
    for link in ("Download dense as ONNX", f"Download {data.name}, weights of dense"):
        with page.expect_download() as download:
            row.get_by_role("link", name=link).click()
        download.value.save_as(tmp_path / "got" / download.value.suggested_filename)
    assert (tmp_path / "got" / data.name).read_bytes() == data.read_bytes()
    onnxruntime.InferenceSession(str(tmp_path / "got" / "dense.onnx"), providers=["CPUExecutionProvider"])


def test_below_a_proxys_prefix(page: Page, service: str, finished_job: str) -> None:
    """Every address that the page asks for, and that the service gives it, has the prefix."""
    asked = []

    def forward(route: Route) -> None:
        path = urlsplit(route.request.url).path
        asked.append(path)
        assert path.startswith("/secateur/"), path
        headers = {**route.request.headers, "x-forwarded-prefix": "/secateur"}
        route.fulfill(response=route.fetch(url=route.request.url.replace("/secateur/", "/", 1), headers=headers))

    page.route("**/*", forward)
    page.add_init_script("delete globalThis.EventSource")  # a fulfilled route has an end, a stream has none
    page.goto(f"/secateur/#job={finished_job}")
    expect_success(page)
    expect(page.locator("#job-view svg .mark").first).to_be_visible()
    page.get_by_role("link", name="API").click()
    expect(page.locator("#title")).to_contain_text("Secateur")
    assert f"/secateur/v1/jobs/{finished_job}/front" in asked
