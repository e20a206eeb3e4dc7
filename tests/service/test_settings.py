"""Settings from the environment and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Settings


def test_the_environment_carries_settings_to_another_process() -> None:
    """What `to_env` writes, `from_env` reads."""
    settings = Settings(data_dir=Path("/d"), port=1, lease_s=1.5, trusted_hosts=("a", "b"), redis_url="redis://x")
    assert Settings.from_env(settings.to_env()) == settings


def test_flags_win_over_the_environment() -> None:
    """A value that is None was not given."""
    assert Settings.from_env({"SECATEUR_PORT": "5"}, port=6, host=None).port == 6
    assert Settings.from_env({"SECATEUR_PORT": "5"}, port=None).port == 5


def test_common_names_are_read() -> None:
    """REDIS_URL and DATABASE_URL count, the prefixed ones count more."""
    environ = {"REDIS_URL": "redis://a", "DATABASE_URL": "postgresql://b"}
    assert Settings.from_env(environ).redis_url == "redis://a"
    assert Settings.from_env(environ).database == "postgresql://b"
    assert Settings.from_env({**environ, "SECATEUR_REDIS_URL": "redis://c"}).redis_url == "redis://c"


@pytest.mark.parametrize(("name", "value"), [("PORT", "x"), ("LEASE_S", "soon"), ("TRUSTED_HOSTS", "[")])
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    """The message has the variable and the value."""
    with pytest.raises(ValueError, match=f"SECATEUR_{name}.*{value.replace('[', '.')}"):
        Settings.from_env({f"SECATEUR_{name}": value})
