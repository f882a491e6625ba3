import pytest
from clutrr_files import row, write


@pytest.fixture
def folder(tmp_path):
    """Forty training rows and three test rows, two of which tell the same story."""
    write(tmp_path / "1.3_train.csv", [row(n) for n in range(1, 41)])
    write(tmp_path / "1.3_test.csv", [row(n, task_split="test") for n in (0, 0, 50)])
    return tmp_path
