"""Between the event loop and the application: nobody who waits, for a client or for a change, holds a thread.

A request comes in whole (`service.incoming`), a thread makes its answer, and the loop sends it as fast as the client takes
it. Event streams and long polls wait on the loop (`service.api.follow`). Health has threads of its own, and so have requests
that take long: large uploads, dry runs, fits.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, cast

import flask
from werkzeug.middleware.proxy_fix import ProxyFix

from service.api.follow import KEY, Again, Stream
from service.api.problems import MEDIA_TYPE
from service.changes import Changes
from service.errors import ServiceError, Unavailable
from service.incoming import Body, Input, Receive
from service.settings import Settings

_PIECE_BYTES = 2**18
"""Of an answer, in memory at once."""
_TAKE_S = 60.0
"""A client that takes nothing of its answer for so long has gone."""
_KEEP_ALIVE_S = 15.0
_LONG_THREADS = 8
_HEALTH = frozenset({"/livez", "/readyz"})
_LONG = frozenset({"/v1/inspect", "/v1/profiles"})
Send = Callable[[Any], Any]
Scope = Mapping[str, Any]


@dataclasses.dataclass
class _Answer:
    """What the application made of a request; `pieces` are still to come."""

    status: int
    headers: list[tuple[bytes, bytes]]
    first: bytes
    pieces: Iterator[bytes]
    whole: bool
    """Nothing is to come any more."""
    follow: Again | Stream | None
    close: Callable[[], None]


class Front:
    """The application as ASGI.

    Args:
        app: the application.
        settings: how many threads and watchers, and whose forwarded headers are believed.
        changes: of jobs.
    """

    def __init__(self, app: flask.Flask, settings: Settings, changes: Changes) -> None:
        self._app, self._settings, self._changes = app, settings, changes
        self._forwarded = ProxyFix(app, x_for=1, x_proto=1, x_host=0, x_prefix=1)
        self._proxies = [ipaddress.ip_network(one) for one in settings.trusted_proxies]
        self._quick = ThreadPoolExecutor(settings.web_threads, thread_name_prefix="quick")
        self._long = ThreadPoolExecutor(_LONG_THREADS, thread_name_prefix="long")
        self._health = ThreadPoolExecutor(2, thread_name_prefix="health")
        self._watchers = 0
        self._news: dict[tuple[str, int], asyncio.Task[tuple[bytes, int, bool]]] = {}
        """What watchers at the same place of a job will get is asked for once."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return
        headers = _headers(scope)
        body = Body(receive, expected="HTTP_TRANSFER_ENCODING" in headers or headers.get("CONTENT_LENGTH", "0") != "0")
        environ = self._environ(scope, headers)
        pool, environ["wsgi.input"] = await self._input(scope, headers, body)
        answer = await self._ask(pool, scope, environ)
        if isinstance(answer.follow, Stream):  # nobody knows how long it will be
            answer.headers = [(name, value) for name, value in answer.headers if name.lower() != b"content-length"]
        try:
            if answer.follow is None or scope["method"] == "HEAD":
                await _give(answer, pool, send)
            else:
                await self._watch(answer, scope, headers, receive, send)
        except (TimeoutError, OSError):  # the client has gone
            return
        finally:
            answer.close()

    async def _input(self, scope: Scope, headers: Mapping[str, str], body: Body) -> tuple[Executor, Input]:
        """The thread pool for a request, and its body: whole where it is small, else to be read there."""
        pool = self._health if scope["path"] in _HEALTH else self._quick
        if scope["method"] == "POST" and scope["path"] in _LONG:
            pool = self._long
        most, announced = self._settings.max_request_bytes, headers.get("CONTENT_LENGTH", "")
        here = bytearray()
        if not (announced.isdigit() and int(announced) > most):  # else the application may refuse it before it is sent
            try:
                while len(here) <= most and (piece := await body.piece()):
                    here += piece
            except Exception as error:  # noqa: BLE001 - told to whoever reads the body
                return pool, Input(bytes(here), error=error)
            if body.ended:
                return pool, Input(bytes(here))
        loop = asyncio.get_running_loop()
        return self._long, Input(bytes(here), lambda: asyncio.run_coroutine_threadsafe(body.piece(), loop).result())

    def _environ(self, scope: Scope, headers: Mapping[str, str]) -> dict[str, Any]:
        client, server = scope.get("client") or ("", 0), scope.get("server") or ("localhost", 80)
        return {
            "REQUEST_METHOD": scope["method"],
            "SCRIPT_NAME": "",
            "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            "REQUEST_URI": scope["raw_path"].decode("latin-1"),
            "SERVER_NAME": server[0],
            "SERVER_PORT": str(server[1]),
            "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
            "REMOTE_ADDR": client[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scope["scheme"],
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": self._settings.web_workers > 1,
            "wsgi.run_once": False,
            **headers,
        }

    def _is_proxy(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        return any(address in network for network in self._proxies)

    async def _ask(self, pool: Executor, scope: Scope, environ: dict[str, Any]) -> _Answer:
        app = self._forwarded if self._is_proxy((scope.get("client") or ("", 0))[0]) else self._app
        return await asyncio.get_running_loop().run_in_executor(pool, _run, app, environ)

    async def _watch(
        self, answer: _Answer, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        """Go on with an answer that waits, for as long as the client is there."""
        if self._watchers >= self._settings.max_watchers:
            busy = Unavailable(f"{self._watchers} clients follow jobs here, which is the most; ask without waiting")
            await _refuse(busy, answer, send)
            return
        self._watchers += 1
        gone = asyncio.create_task(_until_gone(receive))
        try:
            if isinstance(answer.follow, Stream):
                await self._stream(answer, answer.follow, gone, send)
            else:
                await self._poll(answer, scope, headers, gone, send)
        finally:
            gone.cancel()
            self._watchers -= 1

    async def _stream(self, answer: _Answer, stream: Stream, gone: asyncio.Task[None], send: Send) -> None:
        await _sent(send, {"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await _sent(send, {"type": "http.response.body", "body": answer.first, "more_body": True})
        seen, ended = stream.seen, False
        while not ended:
            changed = await _unless(gone, self._changes.wait(stream.job_id, seen, _KEEP_ALIVE_S))
            if gone.done():
                return
            text = b": still here\n\n"
            if changed:
                text, seq, ended = await self._news_of(stream, seen.seq)
                seen = dataclasses.replace(seen, seq=seq)
            await _sent(send, {"type": "http.response.body", "body": text, "more_body": True})
        await _sent(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _news_of(self, stream: Stream, seq: int) -> tuple[bytes, int, bool]:
        key = stream.job_id, seq
        if key not in self._news:
            asking = asyncio.get_running_loop().run_in_executor(self._quick, stream.more, seq)
            self._news[key] = asyncio.ensure_future(_awaited(asking))
            self._news[key].add_done_callback(lambda _: self._news.pop(key))
        return await asyncio.shield(self._news[key])

    async def _poll(
        self, answer: _Answer, scope: Scope, headers: Mapping[str, str], gone: asyncio.Task[None], send: Send
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + cast("Again", answer.follow).wait_s
        while isinstance(answer.follow, Again) and (left_s := deadline - loop.time()) > 0:
            answer.close()
            await _unless(gone, self._changes.wait(answer.follow.job_id, answer.follow.seen, left_s))
            if gone.done():
                return
            environ = self._environ(scope, headers) | {"wsgi.input": Input(b"")}
            answer = await self._ask(self._quick, scope, environ)
        try:
            await _give(answer, self._quick, send)
        finally:
            answer.close()

    def close(self) -> None:
        """Let the threads go."""
        self._changes.close()
        for pool in (self._quick, self._long, self._health):
            pool.shutdown(wait=False, cancel_futures=True)


def _headers(scope: Scope) -> dict[str, str]:
    """The request's headers as CGI names them; those that come several times are joined."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        if b"_" in raw:  # would be taken for the header with a dash
            continue
        name = raw.decode("latin-1").upper().replace("-", "_")
        name = name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{name}"
        text = value.decode("latin-1")
        found[name] = f"{found[name]},{text}" if name in found else text
    return found


def _run(app: Any, environ: dict[str, Any]) -> _Answer:
    """Ask a WSGI application, as far as the first piece of its answer; in a thread."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        started[:] = [status, headers]
        return lambda _: None

    made: Iterable[bytes] = app(environ, start_response)
    close: Callable[[], None] = getattr(made, "close", lambda: None)
    try:
        pieces = iter(made)
        first, whole = _next(pieces)
    except BaseException:
        close()
        raise
    status, headers = started
    return _Answer(
        int(status.split(" ", 1)[0]),
        [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        first,
        pieces,
        whole,
        environ.get(KEY),
        close,
    )


def _next(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """About `_PIECE_BYTES` of an answer, and whether that was the last of it."""
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) >= _PIECE_BYTES:
            return bytes(found), False
    return bytes(found), True


async def _give(answer: _Answer, pool: Executor, send: Send) -> None:
    """Send an answer; a thread only fetches the next piece when the client has taken the one before."""
    await _sent(send, {"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    piece, whole = answer.first, answer.whole
    while not whole:
        await _sent(send, {"type": "http.response.body", "body": piece, "more_body": True})
        piece, whole = await asyncio.get_running_loop().run_in_executor(pool, _next, answer.pieces)
    await _sent(send, {"type": "http.response.body", "body": piece, "more_body": False})


async def _refuse(error: ServiceError, answer: _Answer, send: Send) -> None:
    request_id = dict(answer.headers).get(b"X-Request-ID", secrets.token_hex(8).encode()).decode()
    text = problem_text(error.status, error.to_dict(), request_id)
    headers = [(name.encode(), value.encode()) for name, value in {"Content-Type": MEDIA_TYPE, **error.headers}.items()]
    headers += [(b"Content-Length", str(len(text)).encode())]
    headers += [(name, value) for name, value in answer.headers if name.lower().startswith(b"x-")]
    await _sent(send, {"type": "http.response.start", "status": error.status, "headers": headers})
    await _sent(send, {"type": "http.response.body", "body": text, "more_body": False})


def problem_text(status: int, problem: Mapping[str, Any], request_id: str) -> bytes:
    """A problem of RFC 9457, for answers that the application has no part in."""
    return json.dumps({"status": status, **problem, "request_id": request_id}).encode()


async def _sent(send: Send, message: Mapping[str, Any]) -> None:
    async with asyncio.timeout(_TAKE_S):
        await send(message)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _awaited(future: asyncio.Future[tuple[bytes, int, bool]]) -> tuple[bytes, int, bool]:
    return await future


async def _unless(gone: asyncio.Task[None], waiting: Any) -> bool:
    """The outcome of `waiting`, or False as soon as the client has gone."""
    task = asyncio.ensure_future(waiting)
    try:
        await asyncio.wait({gone, task}, return_when=asyncio.FIRST_COMPLETED)
        return task.done() and bool(task.result())
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
