"""What gunicorn is told beside its options: a client that falls silent in the middle of a request holds no thread for long.

A proxy buffers such clients; this is for a service without one.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

SILENCE_S = 10


def when_ready(server: Any) -> None:
    """Gunicorn's hook: connections inherit the receive timeout of the socket that accepts them (Linux)."""
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_S, 0))
