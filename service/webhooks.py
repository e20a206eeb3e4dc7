"""Telling a URL that its job has ended: Standard Webhooks 1.0, signed, retried, and never to an address inside.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import sqlalchemy as sa
import urllib3

from service.database import Database
from service.errors import BadRequest
from service.settings import Settings
from service.tables import Delivery, Job

_BACKOFF_S = (5, 60, 300, 1800, 7200, 36_000, 86_400)
"""Pauses between attempts, as the specification suggests; after the last one it is given up."""
_TIMEOUT_S = 10.0
_PAUSE_S = 1.0
_log = logging.getLogger(__name__)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Forbidden(Exception):
    """The URL leads to an address that may not be reached from here."""


def is_public(address: Address) -> bool:
    """Whether an address is on the open internet; mapped and translated ones count as what they stand for."""
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (inner is None or is_public(inner))


def require_public_name(url: str) -> None:
    """Refuse what can be seen to lead inside without asking a name server.

    Raises:
        BadRequest: no host, or a private address.
    """
    try:
        host = urlsplit(url).hostname or ""
        urlsplit(url).port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise BadRequest(f"`webhook_url`: {error}; give https://host/path") from error
    try:
        public = is_public(ipaddress.ip_address(host))
    except ValueError:
        public = "." in host.strip(".") and not host.endswith((".local", ".internal", ".localhost"))
    if not public:
        raise BadRequest(f"`webhook_url` leads to {host!r}, inside; give a host on the open internet")


@dataclasses.dataclass(frozen=True)
class Messenger:
    """Sends signed messages.

    Args:
        secret: ``whsec_`` and base64.
        admits: whether an address may be reached.
    """

    secret: str
    admits: Callable[[Address], bool] = is_public

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """The ``webhook-signature`` header."""
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        return f"v1,{base64.b64encode(digest).decode()}"

    def send(self, url: str, message_id: str, timestamp: int, body: bytes) -> int:
        """POST a message; the status of the answer. Redirects are not followed.

        Raises:
            Forbidden: the name leads to an address that may not be reached.
            OSError, urllib3.exceptions.HTTPError: nobody answered.
        """
        place = urlsplit(url)
        host, port = place.hostname or "", place.port or (443 if place.scheme == "https" else 80)
        address = self._resolve(host, port)  # and connect to that very address: the name may lead elsewhere next time
        headers = {
            "Host": place.netloc.rpartition("@")[2],
            "Content-Type": "application/json",
            "User-Agent": "secateur-webhooks/1",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": self.sign(message_id, timestamp, body),
        }
        timeout = urllib3.Timeout(connect=_TIMEOUT_S, read=_TIMEOUT_S)
        pool: urllib3.HTTPConnectionPool
        if place.scheme == "https":
            pool = urllib3.HTTPSConnectionPool(
                address, port, server_hostname=host, assert_hostname=host, timeout=timeout
            )
        else:
            pool = urllib3.HTTPConnectionPool(address, port, timeout=timeout)
        path = (place.path or "/") + (f"?{place.query}" if place.query else "")
        with pool:
            answer = pool.urlopen("POST", path, body, headers, retries=False, redirect=False, preload_content=False)
            answer.close()
            return int(answer.status)

    def _resolve(self, host: str, port: int) -> str:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        inside = sorted(text for text in found if not self.admits(ipaddress.ip_address(text)))
        if inside:
            raise Forbidden(f"{host} leads to {inside[0]}")
        return min(found)


def deliver(database: Database, messenger: Messenger) -> int:
    """Send what is due; how many messages arrived. A message may arrive twice, with the same ``webhook-id``."""
    arrived = 0
    for delivery, job in _due(database):
        status = _try(messenger, delivery, job, int(database.clock()))
        delivered = 200 <= status < 300
        arrived += delivered
        next_at = None if delivered or status == 410 else _next(database.clock(), delivery.attempts)
        with database.writing() as session:
            session.execute(sa.update(Delivery).where(Delivery.id == delivery.id).values(next_at=next_at))
    return arrived


def _due(database: Database) -> list[tuple[Delivery, Job]]:
    now = database.clock()
    query = sa.select(Delivery, Job).join(Job, Job.id == Delivery.job_id).where(Delivery.next_at <= now)
    taken = []
    with database.writing() as session:
        for delivery, job in session.execute(query.limit(20).with_for_update(skip_locked=True)).all():
            delivery.attempts += 1
            delivery.next_at = now + 60  # another sender leaves it alone meanwhile; and if we die, it is sent again
            taken.append((delivery, job))
    return taken


def _next(now: float, attempts: int) -> float | None:
    return now + _BACKOFF_S[attempts - 1] if attempts <= len(_BACKOFF_S) else None


def _try(messenger: Messenger, delivery: Delivery, job: Job, timestamp: int) -> int:
    moment = dt.datetime.fromtimestamp(job.finished_at or timestamp, dt.UTC).isoformat()
    data = {"id": job.id, "status": job.status, "error": job.error, "metadata": job.job_metadata}
    body = json.dumps({"type": f"job.{job.status}", "timestamp": moment, "data": data}).encode()
    try:
        status = messenger.send(delivery.url, delivery.id, timestamp, body)
    except (OSError, urllib3.exceptions.HTTPError, Forbidden, ValueError) as error:
        _log.warning("webhook %s of job %s: not delivered: %s", delivery.id, job.id, error)
        return 0
    if not 200 <= status < 300:
        _log.warning("webhook %s of job %s: answered %d", delivery.id, job.id, status)
    return status


def keep_delivering(settings: Settings, stop: threading.Event) -> None:
    """Send what is due until `stop`."""
    database, messenger = Database(settings.database), Messenger(settings.webhook_secret)
    while not stop.wait(_PAUSE_S):
        try:
            deliver(database, messenger)
        except sa.exc.OperationalError as error:
            _log.warning("webhooks wait: %s", error)
