"""Random networks as exporters write them: a written file is the upload with exactly the recorded edits."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from tests.search.graph.edit.patch_laws import Case, Laws, cases


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_a_written_file_is_the_upload_with_the_recorded_edits(case: Case) -> None:
    """Nothing changes that no edit names, the upload comes back where there is none, and cut equals masked."""
    Laws().check(case)
