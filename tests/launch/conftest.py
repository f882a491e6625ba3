"""One tiny trained run, which tests evaluate, ask, and damage copies of."""

import os
import shutil
from pathlib import Path

import pytest
from launching import TINY, call, end_all


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Scripts in this process take one thread: two wait for each other on a busy machine, ten times as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda pid, ask=os.sched_getaffinity: {min(ask(pid))})
        yield


@pytest.fixture(autouse=True)
def no_process_left():
    yield
    end_all()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """How ``train`` ended, and the folder of its run, of every method; to be read only."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = call("train", "--problem", "clutrr", "--output", folder, *TINY)
    assert result.code == 0, result.err
    return result, folder


@pytest.fixture
def run_copy(trained, tmp_path):
    """A copy of the trained run, to be damaged."""
    return Path(shutil.copytree(trained[1], tmp_path / "run"))


@pytest.fixture
def facts_file(tmp_path):
    file = tmp_path / "facts.txt"
    file.write_text("Ada is the mother of Adam .\n\nAdam is the brother of Alma .\n", encoding="utf-8")
    return file
