"""What a run records about the code that it came from."""

import subprocess
from pathlib import Path

import pytest

from reckoning_betty.training import run_directory


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of one commit, with a module and a result, that the code is taken to run from."""
    for name in ("package/module.py", "configs/results/table.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(run_directory, "__file__", str(tmp_path / "package/module.py"))
    return tmp_path


def test_commit_is_dirty_only_where_more_than_results_was_changed(checkout: Path) -> None:
    clean = run_directory.commit()
    assert clean is not None
    assert len(clean) == 12
    (checkout / "configs/results/table.json").write_text("[]\n")
    assert run_directory.commit() == clean
    (checkout / "package/module.py").write_text("[]\n")
    assert run_directory.commit() == f"{clean}-dirty"


def test_there_is_no_commit_outside_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(run_directory, "__file__", str(tmp_path / "module.py"))
    assert run_directory.commit() is None
