"""The web server: uvicorn over `service.front`, with answers of ours to messages that are no HTTP, and timeouts for headers."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import secrets
import sys
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from service import logs
from service.api.problems import MEDIA_TYPE
from service.app import create_app, of
from service.changes import Changes
from service.front import Front, problem_text
from service.settings import Settings

_HEAD_S = 15.0
"""A client may take so long for its request line and headers."""
_LONGEST_HEAD_BYTES = 2**16
_KEEP_ALIVE_S = 65
"""Longer than a proxy's, so that the proxy closes first."""
_STOP_S = 3
"""An event stream would hold the stop for as long as its client listens."""
_BACKLOG = 2048
_SWITCH_S = 5e-4
"""After so long a thread lets the event loop go on, which waits behind every busy one in turn; Python's own 5 ms made 16 busy
threads 80 ms of waiting."""
_START_S = 60
"""Of several processes each may take so long to start; uvicorn ends what takes 5 s and starts it anew, without end."""


class Protocol(H11Protocol):
    """One connection."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is here."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_is_here()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._head_is_here()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(_HEAD_S, self._head_is_late)

    def _head_is_here(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._refuse(408, f"the headers did not come within {_HEAD_S:g} s; send the request again")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; uvicorn's hook, called where h11 has refused it."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431 and b"\n" not in bytes(self.conn.trailing_data[0]):
            status = 414
        self._refuse(status, f"{error or msg}; send a request of HTTP/1.1")

    def _refuse(self, status: int, detail: str) -> None:
        if self.transport.is_closing():
            return
        with contextlib.suppress(h11.LocalProtocolError):  # an answer is on its way already
            problem = {"type": "validation-error", "title": STATUS_PHRASES[status].decode(), "detail": detail}
            text = problem_text(status, problem, secrets.token_hex(8))
            fields = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(text)), "Connection": "close"}
            head = h11.Response(status_code=status, headers=list(fields.items()), reason=STATUS_PHRASES[status])
            for event in (head, h11.Data(data=text), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def application() -> Front:
    """The application that the environment sets; every process of the server makes its own."""
    settings = Settings.from_env()
    logs.configure(settings.log_format)
    sys.setswitchinterval(_SWITCH_S)
    app = create_app(settings)
    return Front(app, settings, Changes(of(app).store))


def options(settings: Settings) -> dict[str, Any]:
    """How uvicorn is to serve."""
    return {
        "host": settings.host,
        "port": settings.port,
        "http": "service.web_server:Protocol",  # by its name: processes of several workers find it there
        "ws": "none",
        "lifespan": "off",
        "loop": "asyncio",
        "log_config": None,
        "access_log": False,  # audit lines and metrics say more, and no key is ever in them
        "server_header": False,
        "proxy_headers": False,  # `service.front` believes them by its own settings
        "backlog": _BACKLOG,
        "timeout_keep_alive": _KEEP_ALIVE_S,
        "timeout_graceful_shutdown": _STOP_S,
        "timeout_worker_healthcheck": _START_S,
        "h11_max_incomplete_event_size": _LONGEST_HEAD_BYTES,
    }


def main() -> None:
    """Serve as the environment says, until SIGTERM."""
    settings = Settings.from_env()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2**16)), hard))  # a connection is a file
    workers = settings.web_workers
    uvicorn.run("service.web_server:application", factory=True, workers=workers, **options(settings))


if __name__ == "__main__":
    main()
