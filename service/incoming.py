"""The body of a request on its way in: read on the event loop, with the patience that a slow client gets.

A small body is here before a thread is taken. A large one is read by a thread of its own kind, piece by piece.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

from werkzeug.exceptions import ClientDisconnected, RequestTimeout

SILENCE_S = 10.0
"""A client that sends nothing for so long has gone."""
_GRACE_S = 20.0
LEAST_BYTES_PER_S = 1024
"""Slower than that, counted from the end of the grace on, is no use of a connection: two gigabytes would take 24 days."""
Receive = Callable[[], Awaitable[Any]]


class Body:
    """What a client sends, as it comes.

    Args:
        receive: of ASGI.
        expected: whether the request says that there is a body.
    """

    def __init__(self, receive: Receive, *, expected: bool) -> None:
        self._receive = receive
        self._began: float | None = None
        self._bytes = 0
        self.ended = not expected

    async def piece(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            ClientDisconnected: the client went away in the middle.
            RequestTimeout: it fell silent, or is too slow.
        """
        loop = asyncio.get_running_loop()
        began = self._began = self._began or loop.time()
        while not self.ended:
            try:
                async with asyncio.timeout(SILENCE_S):
                    message = await self._receive()
            except TimeoutError:
                raise RequestTimeout("the client fell silent in the middle of its request; send it again") from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            self.ended = not message.get("more_body", False)
            data = bytes(message.get("body", b""))
            self._bytes += len(data)
            if not self.ended and self._bytes < LEAST_BYTES_PER_S * (loop.time() - began - _GRACE_S):
                raise RequestTimeout(f"the body comes with less than {LEAST_BYTES_PER_S} bytes a second; send it again")
            if data:
                return data
        return b""


class Input(io.RawIOBase):
    """``wsgi.input``: what is here already, then what `more` gives, or the error that ended the body.

    Args:
        data: the bytes that are here.
        more: the next bytes, none at the end; called in the thread that reads.
        error: raised behind `data` instead.
    """

    def __init__(self, data: bytes, more: Callable[[], bytes] | None = None, error: Exception | None = None) -> None:
        self._data = memoryview(data)
        self._more, self._error = more, error

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        if not self._data:
            if self._error is not None:
                raise self._error
            if self._more is not None:
                self._data = memoryview(self._more())
        size = min(len(buffer), len(self._data))
        buffer[:size] = self._data[:size]
        self._data = self._data[size:]
        return size
