"""The ``secateur`` command. Every error ends here, as a sentence or a JSON object; no traceback reaches a user."""

from __future__ import annotations

import importlib
import logging
import os
import sys

import click

from hwprofiles.errors import ProfileError
from search.wire.errors import SecateurError
from service import logs
from service.errors import ClientError, LaunchError

_INTERRUPTED = 130
_USAGE = 2
_COMMANDS = {
    "calibrate": (
        "calibrate",
        "calibrate",
        "Measure this machine's kernels, or a device elsewhere, and keep them as a profile.",
    ),
    "cancel": ("remote", "cancel", "Cancel a job; what it found so far is kept."),
    "compress": ("local", "compress", "Prune MODEL for its targets and write the front to a directory."),
    "demo": (
        "demo",
        "demo",
        "Train a small network on handwritten digits, prune it through the real service, and compare.",
    ),
    "download": ("remote", "download", "Fetch NAMES of a job's files, or all, and check their digests."),
    "inspect": (
        "local",
        "inspect",
        "Say what can be pruned in MODEL, what cannot and why, and what each target makes of it.",
    ),
    "keys": ("keys", "keys", "Make, list and revoke API keys; run it where the service's settings are."),
    "profiles": (
        "local",
        "show_profiles",
        "List the targets, or those whose ids have all of some words; show one whole.",
    ),
    "status": ("remote", "status", "Show a job, or the newest ones."),
    "submit": ("remote", "submit", "Upload MODEL and start a job."),
    "up": ("serve", "up", "Run the whole service on this machine; Ctrl-C stops it."),
    "watch": ("remote", "watch", "Follow a job to its end."),
    "web": ("serve", "web", "Run the web server alone; workers must share its database, broker and data directory."),
    "worker": ("serve", "worker", "Run a worker and the reconciler; SIGTERM gives a running job back to the queue."),
}
"""Name to its module in `service.commands`, what it is called there, and the first line of its help."""


class _Commands(click.Group):
    """Commands that are loaded once they are called: the list of all needs none of them."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names, in the order of the list."""
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Load one; None where there is none of that name."""
        if name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[name]
        found: click.Command = getattr(importlib.import_module(f"service.commands.{module}"), attribute)
        return found

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in _COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="secateur")
def secateur() -> None:
    """Prune a trained ONNX network until it fits the hardware it will run on."""


def main() -> None:
    """Run the command line and exit."""
    logs.configure("text")
    as_json = "--json" in sys.argv
    try:
        code = secateur.main(standalone_mode=False)
    except click.ClickException as error:
        if as_json:
            from service.console import print_error

            print_error({"type": "validation-error", "title": "Usage", "detail": error.format_message()}, as_json)
        else:
            error.show()
        sys.exit(_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except (SecateurError, ClientError, LaunchError, ProfileError, ValueError, OSError) as error:
        from service.console import print_error

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
