"""What gunicorn is told beside its options: a client that falls silent in the middle of a request holds nobody up.

A proxy buffers such clients; this is for a service without one.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

SILENCE_S = 10


def when_ready(server: Any) -> None:
    """Gunicorn's hook: connections inherit the receive timeout of the socket that accepts them (Linux)."""
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_S, 0))


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Closes connections in its threads: gunicorn lingers up to 2 s on each, in the one loop that accepts the others."""

    def finish_request(self, conn: TConn, fs: Any) -> None:
        """Put a connection back to wait for its next request, or close it."""
        conn.close = lambda graceful=False: self.tpool.submit(TConn.close, conn, graceful)
        super().finish_request(conn, fs)
