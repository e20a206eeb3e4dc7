"""The ``secateur`` command. Every error ends here, as a sentence or a JSON object; no traceback reaches a user."""

from __future__ import annotations

import logging
import os
import sys

import click

from hwprofiles.errors import ProfileError
from search.errors import SecateurError
from service import logs
from service.client import ClientError
from service.commands import local, remote, serve
from service.commands.calibrate import calibrate
from service.commands.demo import demo
from service.commands.keys import keys
from service.console import print_error
from service.launch import LaunchError

_INTERRUPTED = 130
_USAGE = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="secateur")
def secateur() -> None:
    """Prune a trained ONNX network until it fits the hardware it will run on."""


_COMMANDS = (serve.up, serve.web, serve.worker, local.compress, local.inspect, local.show_profiles)
for _command in (
    *_COMMANDS,
    remote.submit,
    remote.status,
    remote.watch,
    remote.cancel,
    remote.download,
    calibrate,
    demo,
    keys,
):
    secateur.add_command(_command)


def main() -> None:
    """Run the command line and exit."""
    logs.configure("text")
    as_json = "--json" in sys.argv
    try:
        code = secateur.main(standalone_mode=False)
    except click.ClickException as error:
        if as_json:
            print_error({"type": "validation-error", "title": "Usage", "detail": error.format_message()}, as_json)
        else:
            error.show()
        sys.exit(_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except (SecateurError, ClientError, LaunchError, ProfileError, ValueError, OSError) as error:
        print_error(_problem(error), as_json)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _problem(error: Exception) -> dict[str, object]:
    if os.environ.get("SECATEUR_DEBUG"):
        logging.getLogger(__name__).error("", exc_info=error)
    if isinstance(error, SecateurError):
        return error.to_dict()
    if isinstance(error, ClientError):
        return error.problem
    kind = "internal" if isinstance(error, OSError | LaunchError) else "validation-error"
    return {"type": kind, "title": type(error).__name__, "detail": str(error), "retryable": False}


if __name__ == "__main__":
    main()
