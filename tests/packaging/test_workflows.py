"""What runs on the code host: nothing unpinned, no stored token, and only commands that exist."""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
FOLDER = REPO / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))


def jobs(text: str) -> dict[str, str]:
    """The source of each job by its name."""
    parts = re.split(r"^  (\w+):\n", text.partition("\njobs:\n")[2], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_rights_are_few(path):
    text = path.read_text("utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one)] == []
    assert "\npermissions:\n  contents: read" in text.partition("\njobs:\n")[0]
    assert "secrets." not in text


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_commands_of_make_exist(path):
    goals = re.search(r"^\.PHONY: (.*)$", (REPO / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert set(re.findall(r"\bmake ([\w-]+)", path.read_text("utf-8"))) <= set(goals)


def test_only_the_job_that_publishes_may_ask_for_an_identity():
    text = (FOLDER / "release.yml").read_text("utf-8")
    asking = [name for name, job in jobs(text).items() if "id-token: write" in job]
    assert asking == ["publish"]
    publish = jobs(text)["publish"]
    for part in ("environment:", "attestations: write", "attest-sbom@", "gh-action-pypi-publish@"):
        assert part in publish
    assert "password" not in publish
