"""What the service loads."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from service.cli import _COMMANDS, secateur

_ENGINE = {"jax", "jaxlib", "flax", "optax", "onnx", "onnxruntime"}


@pytest.mark.parametrize("module", ["service.app", "service.worker", "service.cli", "service.demo"])
def test_the_service_never_loads_the_engine(module: str) -> None:
    """A forked worker hangs once its parent has run JAX, so no process of the service may load it."""
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert module in loaded
    assert not _ENGINE & set(loaded)


def test_making_the_applications_does_not_either() -> None:
    """Nor does the web application when it is made, nor the Celery one."""
    code = (
        "import sys, tempfile, pathlib; from service.settings import Settings; from service.app import create_app; "
        "from service.worker import make_worker; s = Settings(data_dir=pathlib.Path(tempfile.mkdtemp())); "
        "create_app(s); make_worker(s); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not _ENGINE & set(loaded)


def test_the_list_of_commands_loads_none_and_says_what_each_says() -> None:
    """`secateur --help` starts in a fraction of a second, from a table that must agree with the commands."""
    code = "import sys, service.cli as c; c.secateur(['--help'], standalone_mode=False); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"pydantic", "numpy", "sqlalchemy", "celery", "rich", "requests"} & set(said.split())
    for name, (_, _, line) in _COMMANDS.items():
        command = secateur.get_command(click.Context(secateur), name)
        assert command is not None
        assert command.name == name
        assert (command.help or "").splitlines()[0] == line
        assert name in said
