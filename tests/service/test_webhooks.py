"""Webhooks: signed as the standard says, retried, and never sent to an address inside."""

from __future__ import annotations

import base64
import dataclasses
import http.server
import ipaddress
import json
import threading
from collections.abc import Iterator

import pytest
from standardwebhooks import Webhook

from service.app import create_app
from service.settings import Settings
from service.store import Store
from service.tables import Delivery
from service.webhooks import Forbidden, Messenger, deliver, is_public
from service.worker import run_job

from .conftest import PROFILE, plan, submit, upload

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@dataclasses.dataclass
class Receiver:
    """Somebody else's server."""

    url: str
    status: int
    got: list[tuple[dict[str, str], bytes]]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that notes what it gets."""
    found = Receiver("", 204, [])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook?x=1"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def finished(settings: Settings, url: str) -> Store:
    """The store after a job that names `url` has ended."""
    settings = dataclasses.replace(settings, webhooks="on", webhook_secret=SECRET)
    client = create_app(settings).test_client()
    job = submit(client, webhook_url="https://example.com/hook")
    store = Store(settings.database)
    run_job(settings, job["id"], lambda: False)
    with store.writing() as session:  # the address of the test's receiver would be refused at submission
        session.query(Delivery).update({"url": url})
    return store


ANYWHERE = Messenger(SECRET, admits=lambda _: True)


def test_the_official_verifier_accepts_the_message(settings: Settings, receiver: Receiver) -> None:
    """One message says which job ended and how; it is sent once."""
    store = finished(settings, receiver.url)
    assert (deliver(store, ANYWHERE), deliver(store, ANYWHERE)) == (1, 0)
    [(headers, body)] = receiver.got
    message = Webhook(SECRET).verify(body.decode(), headers)
    assert message == json.loads(body)
    assert (message["type"], message["data"]["status"]) == ("job.succeeded", "succeeded")
    store.close()


def test_a_refused_message_comes_again(settings: Settings, receiver: Receiver) -> None:
    """After 5 s, then 60 s, with the same id; a redirect is not followed and counts as refused; 410 ends it."""
    store = finished(settings, receiver.url)
    now = store.clock()
    for later_s, status in ((0, 500), (6, 302), (70, 410), (10_000, 204)):
        store.clock = lambda later_s=later_s: now + 60 + later_s  # type: ignore[misc]
        receiver.status = status
        deliver(store, ANYWHERE)
    assert len(receiver.got) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    store.close()


def test_a_name_that_leads_inside_is_not_called(receiver: Receiver) -> None:
    """What counts is the address that the name has when the message is sent."""
    port = receiver.url.split(":")[2].split("/")[0]
    for url in (receiver.url, f"http://localhost:{port}/"):
        with pytest.raises(Forbidden):
            Messenger(SECRET).send(url, "msg_1", 1, b"{}")
    assert receiver.got == []


@pytest.mark.parametrize(
    ("text", "public"),
    [
        *(
            (text, False)
            for text in ("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0")
        ),
        *((text, False) for text in ("::1", "fe80::1", "fc00::1", "::ffff:10.0.0.1", "2002:7f00:1::", "224.0.0.1")),
        *((text, True) for text in ("1.1.1.1", "2606:4700:4700::1111")),
    ],
)
def test_which_addresses_are_public(text: str, public: bool) -> None:
    """Loopback, private, link-local (cloud metadata), mapped and multicast addresses are not."""
    assert is_public(ipaddress.ip_address(text)) is public


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://[::1]/", "http://localhost/", "https://db.internal/"])
def test_an_address_inside_is_refused_at_submission(settings: Settings, url: str) -> None:
    """The client hears it at once."""
    client = create_app(dataclasses.replace(settings, webhooks="on", webhook_secret=SECRET)).test_client()
    body = {"model": upload(client, plan()), "profiles": [PROFILE], "webhook_url": url}
    assert client.post("/v1/jobs", json=body).status_code == 422


def test_webhooks_are_off_by_default(settings: Settings) -> None:
    """A job that names a URL is refused, and the document does not offer it."""
    client = create_app(settings).test_client()
    body = {"model": upload(client, plan()), "profiles": [PROFILE], "webhook_url": "https://example.com/"}
    refused = client.post("/v1/jobs", json=body)
    assert (refused.status_code, "webhooks are off" in refused.get_json()["detail"]) == (422, True)
    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
    assert "webhook_url" not in schemas["JobCreate"]["properties"]
