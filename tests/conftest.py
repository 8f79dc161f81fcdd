"""What every test shares."""

import pytest


@pytest.fixture(autouse=True)
def bundled_weights(monkeypatch, tmp_path):
    """Tests are about the bundled weights, whatever the shell has chosen, and leave a person's progress alone."""
    monkeypatch.delenv("BERTLAB_BERT", raising=False)
    monkeypatch.delenv("BERTLAB_SBERT", raising=False)
    monkeypatch.setenv("BERTLAB_PROGRESS", str(tmp_path / "progress.jsonl"))
