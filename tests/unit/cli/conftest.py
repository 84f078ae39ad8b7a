"""A small model, and a way to run commands in this process."""

import hashlib

import numpy as np
import pytest
from typer.testing import CliRunner

import nearcache.cli.model
from nearcache.cli.app import app


class SmallModel:
    """Eight numbers of a text's hash; like the real model's, the last bits depend on the batch."""

    def __init__(self):
        self.batches = []

    def __call__(self, texts):
        self.batches.append(list(texts))
        rows = [np.frombuffer(hashlib.sha256(t.encode()).digest(), np.uint32) for t in texts]
        return (np.array(rows) / 2**32 + len(texts) * 1e-6).astype(np.float32)


@pytest.fixture
def model():
    return SmallModel()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/embeddings.db"


@pytest.fixture
def command(monkeypatch, model):
    """Run ``nearcache …`` with the small model; gives exit_code, stdout and stderr."""
    monkeypatch.setattr(nearcache.cli.model, "load", lambda: model)

    def run(*words):
        return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "80"})

    return run
