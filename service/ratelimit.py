"""How many requests a tenant may send."""

from __future__ import annotations

import math
import time

import limits
import limits.errors
import limits.storage
import limits.strategies

from service.errors import RateLimited
from service.settings import Settings

_WINDOW_S = 60


class RateLimit:
    """Requests of each tenant in a moving window, counted in Redis where there is one, so that web servers share it."""

    def __init__(self, settings: Settings) -> None:
        self._limit = limits.RateLimitItemPerMinute(max(1, settings.requests_per_minute))
        self._here = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
        self._shared = (
            limits.strategies.MovingWindowRateLimiter(_storage(settings)) if settings.redis_url else self._here
        )
        self._active = settings.keys_required and settings.requests_per_minute > 0

    def spend(self, tenant: str) -> dict[str, str]:
        """Count a request; the headers that say what is left (draft-ietf-httpapi-ratelimit-headers).

        Raises:
            RateLimited: there is nothing left.
        """
        if not self._active:
            return {}
        allowed, reset_at, left = self._hit(tenant)
        wait_s = max(1, math.ceil(reset_at - time.time()))
        headers = {
            "RateLimit-Policy": f'"tenant";q={self._limit.amount};w={_WINDOW_S}',
            "RateLimit": f'"tenant";r={left};t={wait_s}',
        }
        if not allowed:
            refusal = RateLimited(f"{self._limit.amount} requests a minute are allowed; the next one in {wait_s} s")
            refusal.headers = {**headers, "Retry-After": str(wait_s)}
            raise refusal
        return headers

    def _hit(self, tenant: str) -> tuple[bool, float, int]:
        for limiter in (self._shared, self._here):
            try:
                allowed = limiter.hit(self._limit, tenant)
                window = limiter.get_window_stats(self._limit, tenant)
            except limits.errors.StorageError:  # Redis is away: each web server counts for itself until it is back
                continue
            return allowed, window.reset_time, window.remaining
        return True, time.time(), 0


def _storage(settings: Settings) -> limits.storage.Storage:
    url = settings.redis_url.replace("unix://", "redis+unix://", 1)
    short = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}
    storage = limits.storage.storage_from_string(url, wrap_exceptions=True, **short)
    assert isinstance(storage, limits.storage.Storage), url
    return storage
