"""Installing: the wheel works outside of the repository, and a wrong Betty is answered with the command to type."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import reckoning_betty

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
COMMAND = "pip install --no-deps --ignore-requires-python betty-ml==0.2.1"


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def python(code: str, path: str | Path, folder: Path) -> subprocess.CompletedProcess:
    """Run ``code`` in ``folder`` with nothing but ``path`` before the installed packages."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(path)},
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, installed by itself into a folder."""
    pytest.importorskip("setuptools.build_meta", reason="without setuptools no wheel can be built offline")
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "target"))
    # as a clone has it; a build in place would leave build/ behind
    listed = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, source / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source)
    [wheel] = wheels.glob("reckoning_betty-*.whl")
    pip("install", "--no-deps", "--target", target, wheel)
    return target


@pytest.mark.parametrize("package", ["reckoning_betty", "problems"])
def test_the_wheel_is_imported_outside_of_the_repository(package, installed, tmp_path):
    done = python(f"import {package}; print({package}.__file__)", installed, tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == installed / package / "__init__.py"


def test_the_wheel_holds_every_module(installed):
    for package in ("reckoning_betty", "problems"):
        expected = {path.relative_to(REPOSITORY) for path in (REPOSITORY / package).rglob("*.py")}
        found = {path.relative_to(installed) for path in (installed / package).rglob("*.py")}
        assert found == expected
        assert len(found) > 1


def test_the_wheel_holds_nothing_else(installed):
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names - {"__pycache__"} == {"reckoning_betty", "problems"}


# the right Betty


def missing(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("version", "found"), [(missing, "none"), (lambda name: "0.1.1", "0.1.1"), (lambda name: "0.3.0", "0.3.0")]
)
def test_another_betty_is_answered_with_the_command(version, found, monkeypatch):
    monkeypatch.setattr(reckoning_betty, "version", version)
    with pytest.raises(ImportError, match=f"found {found};") as error:
        reckoning_betty.require_betty()
    assert COMMAND in str(error.value)
    assert "\n" not in str(error.value)


def test_the_betty_of_this_environment_is_the_right_one(monkeypatch):
    asked = []
    monkeypatch.setattr(reckoning_betty, "version", lambda name: asked.append(name) or "0.2.1")
    reckoning_betty.require_betty()
    assert asked == ["betty-ml"]
    assert importlib.metadata.version("betty-ml") == "0.2.1"


def test_importing_beside_betty_0_1_1_fails_with_the_command(tmp_path):
    # all that pip's silent choice of the 0.1 line leaves to see
    metadata = tmp_path / "site" / "betty_ml-0.1.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: betty-ml\nVersion: 0.1.1\n", encoding="utf-8")
    path = f"{metadata.parent}{os.pathsep}{REPOSITORY}"
    done = python("import reckoning_betty", path, tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "found 0.1.1" in last
    assert COMMAND in last


# what pyproject.toml states


def requirements() -> dict[str, Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    lines = PROJECT["project"]["dependencies"] + [line for extra in extras for line in extra]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def constraints() -> dict[str, Requirement]:
    lines = (REPOSITORY / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def test_betty_is_pinned():
    assert str(requirements()["betty-ml"].specifier) == "==0.2.1"
    assert reckoning_betty.BETTY_VERSION == "0.2.1"


def test_uv_is_told_what_betty_needs():
    [metadata] = [entry for entry in PROJECT["tool"]["uv"]["dependency-metadata"] if entry["name"] == "betty-ml"]
    assert metadata["version"] == "0.2.1"
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert Requirement(f"python{metadata['requires-python']}").specifier.contains(oldest)
    assert {Requirement(line).name for line in metadata["requires-dist"]} == {"torch", "numpy"}


def test_the_makefile_types_the_same_command():
    assert COMMAND in (REPOSITORY / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", constraints())
def test_a_tested_version_is_exact_and_allowed(name):
    [pin] = constraints()[name].specifier
    assert pin.operator == "=="
    if name in requirements():
        assert requirements()[name].specifier.contains(pin.version)


def test_everything_required_has_a_tested_version():
    optional = {
        canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["optional-dependencies"]["deepspeed"]
    }
    assert requirements().keys() - optional <= constraints().keys()


def test_the_version_is_stated_once_over():
    assert reckoning_betty.__version__ == PROJECT["project"]["version"]
