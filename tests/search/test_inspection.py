"""A dry run of files with parts that ONNX Runtime runs as they are."""

from __future__ import annotations

from pathlib import Path

from search.graph.upload import Upload
from search.inspection import inspect
from search.wire.progress import Progress
from search.wire.request import JobSpec
from tests.search.graph.parts import words


def test_a_file_with_a_head_is_priced_behind_it(tmp_path: Path) -> None:
    """The widths of what the head makes are known by running it; its nodes are carried, the layers behind it priced."""
    found = inspect(JobSpec(("a100-tensorrt-fp16",)), Upload(words()[0]), tmp_path, Progress(None))
    assert found.nodes is not None
    assert found.nodes.carried
    assert found.nodes.understood > 0
    assert found.macs > 0
