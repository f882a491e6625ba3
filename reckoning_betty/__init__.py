"""Meta-learning that folds facts into a language model's weights and reasons over them, on Betty's Problem and Engine.

The two levels stand in ``problems/``; this package holds what they are made of. It imports neither ``problems`` nor
``launch``.
"""

from importlib.metadata import PackageNotFoundError, version

__version__ = "0.1.0"

BETTY_VERSION = "0.2.1"
BETTY_COMMAND = f"pip install --no-deps --ignore-requires-python betty-ml=={BETTY_VERSION}"


def require_betty() -> None:
    """Raise ImportError with the command to type unless betty-ml 0.2.1 is installed.

    betty-ml 0.2.x caps Python below 3.11, so pip on a newer Python installs nothing, or silently the 0.1.x line that
    lacks what the engine needs.
    """
    try:
        found = version("betty-ml")
    except PackageNotFoundError:
        found = "none"
    if found != BETTY_VERSION:
        raise ImportError(f"reckoning_betty needs betty-ml {BETTY_VERSION}, found {found}; type: {BETTY_COMMAND}")


require_betty()
