"""Real workers and their folders, as in the integration tests."""

from tests.integration.conftest import cifartui, runs_dir, start  # noqa: F401
