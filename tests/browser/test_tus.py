"""Resumable uploads with the official JavaScript client, in the browser it is made for.

The client is tus-js-client 4.3.1, the file ``dist/tus.min.js`` of its release, unchanged (MIT, licence beside it).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
CLIENT = Path(__file__).parent / "vendor" / "tus-js-client-4.3.1.min.js"
STOPPED_AND_RESUMED = """async (size) => {
  const file = new File([Uint8Array.from({ length: size }, (_, i) => i % 251)], "d.npz");
  const sent = [];
  const common = {
    endpoint: "/v1/uploads", chunkSize: 100_000, metadata: { purpose: "dataset", filename: "d.npz" },
    onBeforeRequest: (request) => sent.push([request.getMethod(), request.getHeader("Upload-Offset") ?? ""]),
  };
  await new Promise((resolve, reject) => {
    const first = new tus.Upload(file, {
      ...common, onError: reject,
      onChunkComplete: (_, accepted) => accepted >= 300_000 && first.abort().then(resolve),
    });
    first.start();
  });
  const before = sent.length;
  const address = await new Promise(async (resolve, reject) => {
    const second = new tus.Upload(file, { ...common, onError: reject, onSuccess: () => resolve(second.url) });
    const [known] = await second.findPreviousUploads();
    second.resumeFromPreviousUpload(known);
    second.start();
  });
  return { address, requests: sent.slice(before) };
}"""


def test_the_official_client_uploads_and_resumes(page: Page, service: str) -> None:
    """An upload stopped after 300,000 bytes is found again, goes on from there, and the file has the bytes."""
    size = 1_000_000
    page.add_init_script(path=CLIENT)
    page.goto("/")
    found = page.evaluate(STOPPED_AND_RESUMED, size)
    offsets = [["HEAD", ""], *(["PATCH", str(at)] for at in range(300_000, size, 100_000))]
    assert found["requests"] == offsets
    data = bytes(i % 251 for i in range(size))
    upload = requests.get(service + found["address"], timeout=10).json()
    assert (upload["received"], upload["bytes"]) == (size, size)
    again = requests.put(f"{service}/v1/files?purpose=dataset", data=data, timeout=10)
    assert (again.status_code, again.json()["id"]) == (200, upload["file"])
    assert again.json()["sha256"] == hashlib.sha256(data).hexdigest()
