"""The contract suites in the hands of somebody who writes a store or a tier of their own."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

from nearcache.testing import contracts

EXAMPLE = textwrap.dedent(re.search(r"::\n\n((?:    .*|\n)+)", contracts.__doc__)[1])

FORGETFUL = """
import pytest

from nearcache.testing import MemoryStore
from nearcache.testing.contracts.stores import StoreContract


class Forgetful(MemoryStore):
    def write(self, *_):
        pass


class TestForgetful(StoreContract):
    @pytest.fixture
    def handles(self):
        return Forgetful
"""

TIERS = """
import pytest

from nearcache.codecs.vectors import by_name
from nearcache.near.objects import ObjectTier
from nearcache.near.vectors import VectorTier
from nearcache.testing.contracts.near_objects import NearObjectsContract
from nearcache.testing.contracts.near_rows import NearRowsContract


class TestObjects(NearObjectsContract):
    @pytest.fixture
    def make(self):
        return lambda policy, max_entries, max_bytes, clock: ObjectTier(
            max_entries=max_entries, max_bytes=max_bytes, clock=clock, policy=policy, seed=1
        )


class TestRows(NearRowsContract):
    @pytest.fixture
    def make(self):
        return lambda precision, max_entries, max_bytes, clock: VectorTier(
            dtype=by_name(precision).dtype,
            scaled=by_name(precision).scaled,
            max_entries=max_entries,
            max_bytes=max_bytes,
            clock=clock,
        )
"""


@pytest.fixture
def elsewhere(tmp_path):
    """Run a test module where nothing of this suite is: no conftest, no settings of ours."""

    def run(source, *options):
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "test_mine.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *options, "test_mine.py"]
        # plugins take longer to import than the tests to run; some warn where they are not set up
        bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(
            command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_example_passes_as_it_is_written(elsewhere):
    status, said = elsewhere(EXAMPLE)
    assert status == 0, said
    assert int(re.search(r"(\d+) passed", said)[1]) > 150


def test_near_tiers_are_given_by_one_fixture(elsewhere):
    status, said = elsewhere(TIERS, "-k", "order_asked or counts")
    assert status == 0, said
    assert "passed" in said


def test_a_store_that_breaks_the_contract_is_told_what_it_answered(elsewhere):
    status, said = elsewhere(FORGETFUL, "-k", "what_was_written_is_fetched")
    assert status == 1
    assert "assert [None, None, None] == [" in said  # and not a bare AssertionError


def test_every_suite_explains_its_asserts():
    from nearcache.testing.contracts import near_objects, near_rows, stores, stores_mutable, streams

    for suite in (near_objects, near_rows, stores, stores_mutable, streams):
        assert "rewrite" in type(suite.__loader__).__module__


def test_without_pytest_the_cure_is_named():
    code = "import sys; sys.modules['pytest'] = None; import nearcache.testing.contracts.stores"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("the contract suites need pytest: pip install pytest\n")
