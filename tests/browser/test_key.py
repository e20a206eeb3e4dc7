"""The page of a service that asks for API keys, in a real browser."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from service import keys
from service.settings import Settings
from service.store import Store
from tests.browser.conftest import fresh_page, running_service
from tests.browser.test_page import TARGET, choose_only
from tests.service.conftest import QUICK_CHILD

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shared(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address of a service with a quick child that wants keys, and a key."""
    folder = tmp_path_factory.mktemp("shared")
    store = Store.open(Settings(data_dir=folder))
    key = keys.create(store, "acme", "page")[1]
    store.close()
    child = json.dumps(QUICK_CHILD)
    with running_service(folder, SECATEUR_API_KEYS="on", SECATEUR_CHILD_COMMAND=child) as address:
        yield address, key


@pytest.fixture
def asked(browser: Browser, shared: tuple[str, str]) -> Iterator[Page]:
    """The page, which asks for a key."""
    with fresh_page(browser, shared[0]) as page:
        page.goto("/")
        expect(page.get_by_label("API key")).to_be_focused()
        yield page


def enter(page: Page, key: str) -> None:
    """Type a key and press Enter, with the focus where the page has put it."""
    page.keyboard.type(key)
    page.keyboard.press("Enter")


def test_a_wrong_key_is_told_and_asked_for_again(asked: Page, shared: tuple[str, str]) -> None:
    """A revoked or mistyped key is named as such beside the field, which keeps the focus; the good one then opens."""
    enter(asked, f"sk_{'0' * 12}_{'A' * 43}")
    expect(asked.locator("#key-problem")).to_contain_text("not known, or was revoked")
    expect(asked.get_by_label("API key")).to_be_focused()
    expect(asked.locator("#problem, #form")).to_have_count(2)
    expect(asked.locator("#problem:visible, #form:visible")).to_have_count(0)
    enter(asked, shared[1])
    expect(asked.locator("#key-form")).to_be_hidden()
    expect(asked.locator("main")).to_be_focused()
    expect(asked.locator("[name=profile]")).not_to_have_count(0)


def test_a_job_from_upload_to_download(asked: Page, shared: tuple[str, str], tmp_path: Path) -> None:
    """Upload, submission, progress and downloads all carry the key, and no address does."""
    address, key = shared
    addresses: list[str] = []
    asked.on("request", lambda request: addresses.append(request.url))
    enter(asked, key)
    model = tmp_path / "quick.onnx"
    model.write_text('{"units": 3, "unit_s": 0.2}')
    asked.get_by_label("Model", exact=True).set_input_files(model)
    choose_only(asked, TARGET)
    asked.get_by_role("button", name="Start pruning").click()
    asked.wait_for_url(re.compile("#job="), timeout=30_000)
    expect(asked.locator("#job-view .pill")).to_have_text("succeeded", timeout=60_000)
    asked.get_by_text("Events", exact=True).click()
    expect(asked.locator(".log")).to_contain_text("status: succeeded")
    with asked.expect_download() as download:
        asked.get_by_role("link", name="Download best.onnx").click()
    assert download.value.suggested_filename == "best.onnx"
    job = asked.url.split("#job=")[1]
    header = {"Authorization": f"Bearer {key}"}
    rows = requests.get(f"{address}/v1/jobs/{job}/artifacts", headers=header, timeout=10).json()["data"]
    [digest] = [row["sha256"] for row in rows if row["name"] == "best.onnx"]
    assert hashlib.sha256(download.value.path().read_bytes()).hexdigest() == digest
    assert not [each for each in addresses if key in each]


def test_the_key_lasts_for_the_session_of_the_tab(asked: Page, browser: Browser, shared: tuple[str, str]) -> None:
    """A reload needs no key again, another context does, nothing is left in lasting storage, and forgetting works."""
    enter(asked, shared[1])
    expect(asked.locator("[name=profile]")).not_to_have_count(0)
    asked.reload()
    expect(asked.locator("[name=profile]")).not_to_have_count(0)
    expect(asked.locator("#key-form")).to_be_hidden()
    assert asked.evaluate("localStorage.length + document.cookie.length") == 0
    with fresh_page(browser, shared[0]) as other:
        other.goto("/")
        expect(other.get_by_label("API key")).to_be_visible()
    asked.get_by_role("button", name="Forget the key").click()
    expect(asked.get_by_label("API key")).to_be_focused()
    assert asked.evaluate("sessionStorage.length") == 0


def test_the_api_page_needs_no_key_and_names_it(asked: Page) -> None:
    """The description is open to all, and its curl lines say where the key goes."""
    asked.goto("/docs")
    listing = asked.locator("#listJobs pre")
    expect(listing).to_contain_text("Authorization: Bearer KEY")
    expect(asked.locator("#isAlive pre")).not_to_contain_text("Bearer")
