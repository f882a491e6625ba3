"""Tables for the terminal."""

from collections.abc import Mapping


def accuracy_lines(tables: Mapping[str, Mapping[str, float]], title: str, first: str = "method") -> list[str]:
    """One line per method (or split), one column per number of hops.

    Args:
        tables: {method: {hops: label accuracy in [0, 1]}}.
        title: printed above.
        first: heading of the first column.
    """
    hops = sorted({key for table in tables.values() for key in table}, key=int)
    width = max(len(first), *(len(name) for name in tables))
    header = f"{first:<{width}}" + "".join(f"{key:>7}" for key in hops)
    lines = [title, header, "-" * len(header)]
    for name, table in tables.items():
        cells = "".join(f"{100 * table[key]:7.1f}" if key in table else f"{'-':>7}" for key in hops)
        lines.append(f"{name:<{width}}{cells}")
    return lines
