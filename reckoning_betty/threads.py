"""How many CPU threads to compute with."""

import os
import statistics
import time

import torch

SMALL = 2_000_000
"""Parameters up to which a model's operations are so small that threads may cost more than they bring."""

ROUNDS = 5


def choose_threads(parameters: int, processes: int = 1) -> int:
    """The number of threads for a model of this many parameters, where so many processes share the machine.

    Large models take every core. Small ones are many small operations, which more threads make a little faster on an
    idle machine and many times slower on a busy one, where threads wait for each other: so it is measured.
    """
    cores = max(1, len(os.sched_getaffinity(0)) // processes)
    if cores == 1 or parameters > SMALL:
        return cores
    candidates = [count for count in (1, 2, 4, 8, 16) if count <= cores]
    seconds: dict[int, list[float]] = {count: [] for count in candidates}
    for _ in range(ROUNDS):
        for count in candidates:  # in turn, so that a passing disturbance meets them all
            seconds[count].append(_seconds_of_small_operations(count))
    return min(candidates, key=lambda count: statistics.median(seconds[count]))


def _seconds_of_small_operations(threads: int) -> float:
    """Time of what an inner step of the small GPT-2 is made of: products and sums over 16 tasks' weights."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs, weights = torch.ones(16, 28, 64), torch.ones(16, 64, 256)
        start = time.perf_counter()
        for _ in range(40):
            outputs = torch.relu(inputs @ weights)
            weights = weights - 1e-6 * (inputs.transpose(1, 2) @ outputs)
        return time.perf_counter() - start
    finally:
        torch.set_num_threads(before)
