"""Profiles from measurements: of this machine, or of a device elsewhere through a kit of networks."""

from __future__ import annotations

from pathlib import Path

import click

from hwprofiles.device import DeviceProfile
from hwprofiles.registry import load_profile, save_profile
from hwprofiles.rows import profile_from_rows, read_results
from service import sandbox
from service.commands.local import UNLIMITED, failure, wait
from service.commands.options import EXISTING_FILE, FOLDER, as_json
from service.commands.scratch import scratch
from service.console import JobProgress, print_json, stdout
from service.protocol import ExitCode
from service.settings import Settings


@click.command()
@click.option(
    "--id", "profile_id", help="Id of the profile to write.  [default: host-cpu-onnxruntime or host-cpu-litert]"
)
@click.option("--runtime", type=click.Choice(["onnxruntime", "litert"]), default="onnxruntime", show_default=True)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads of an inference.")
@click.option(
    "--export", "kit", type=FOLDER, help="Write networks, a manifest and a script for a device elsewhere instead."
)
@click.option("--networks", type=click.IntRange(20, 1000), default=150, show_default=True, help="How many to export.")
@click.option(
    "--import", "results", type=EXISTING_FILE, help="Fit a profile to this results.csv beside its manifest instead."
)
@click.option("--like", help="Profile of the same runtime and data type, whose kernel rules the imported one keeps.")
@click.option("--name", help="Name of the imported profile, for people.")
@as_json
def calibrate(
    *,
    profile_id: str | None,
    runtime: str,
    threads: int,
    kit: Path | None,
    networks: int,
    results: Path | None,
    like: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Measure this machine's kernels, or a device elsewhere, and keep them as a profile."""
    profile_id = profile_id or f"host-cpu-{runtime}"
    if kit is not None:
        _run_engine(["kit", str(kit.resolve()), "--networks", str(networks)])
        if as_json:
            print_json({"folder": str(kit), "networks": networks})
        else:
            stdout.print(
                f"{networks} networks in {kit}; time them with {kit}/measure.sh, then --import {kit}/results.csv",
                markup=False,
            )
        return
    if results is not None:
        profile = _imported(results, profile_id, name or profile_id, like)
    else:
        cache_dir = Settings.from_env().cache_dir.resolve()
        _run_engine(
            [
                "calibrate",
                "--id",
                profile_id,
                "--runtime",
                runtime,
                "--threads",
                str(threads),
                "--cache-dir",
                str(cache_dir),
            ]
        )
        profile = load_profile(profile_id, Settings.from_env().profile_dirs)
    if as_json:
        print_json(profile.to_dict())
    else:
        stdout.print(_in_words(profile), markup=False)


def _imported(results: Path, profile_id: str, name: str, like: str | None) -> DeviceProfile:
    if like is None:
        raise click.UsageError(
            "--import needs --like: a profile of the same runtime and data type, see `secateur profiles`"
        )
    settings = Settings.from_env()
    profile = profile_from_rows(profile_id, name, load_profile(like, settings.profile_dirs), read_results(results))
    save_profile(profile, settings.profile_dirs[0])
    return profile


def _run_engine(arguments: list[str]) -> None:
    settings = Settings.from_env()
    with scratch() as directory:
        with JobProgress() as progress:
            progress.show("calibrate", 0.0)
            child = sandbox.start([*settings.child_command, *arguments], directory, settings.cache_dir, UNLIMITED)
            code = wait(child)
        if code != ExitCode.DONE:
            raise failure(directory, code)


def _in_words(profile: DeviceProfile) -> str:
    error = profile.held_out_error
    if error is None:
        return f"{profile.id}: {profile.name}, not validated"
    return (
        f"{profile.id}: {profile.name}; on {error.n} networks, each kept aside once: mean error {error.mape:.1%}, "
        f"rank correlation {error.spearman:.3f}"
    )
