"""Mend 5: ``strategy="distributed"`` without CUDA. Two processes run this file as a script."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from levels import ALONE, MendedLine, MendedRecorder, StockLine, line_batch, linear
from torch import nn


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> list[dict]:
    folder, repository = tmp_path_factory.mktemp("two_processes"), Path(__file__).resolve().parents[2]
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(repository),
        "WORLD_SIZE": "2",
    }
    second_port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / f"{rank}.json"), second_port],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=repository,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = []
    try:
        for process in processes:
            errors.append(process.communicate(timeout=400)[1])
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def two_process_engine(kind: type, engine: type) -> tuple[nn.Linear, Engine]:
    module = linear(seed=int(os.environ["RANK"]))  # ranks start apart, so that sharing the start shows
    problem = kind("line", Config(), module=module, optimizer=torch.optim.SGD(module.parameters(), lr=0.1))
    config = EngineConfig(train_iters=3, valid_step=3, strategy="distributed", backend="gloo")
    return module, engine([problem], config, ALONE)


def mended_process() -> dict:
    module, engine = two_process_engine(MendedLine, MendedRecorder)
    identity = {"rank": engine._rank, "world_size": engine._world_size, "device": str(engine.device)}
    engine.run()
    return identity | {
        "weights": [parameter.tolist() for parameter in module.parameters()],
        "validations": engine.steps("validation"),
        "unwrapped": engine.line.module is module,
    }


def stock_process() -> dict:
    try:
        two_process_engine(StockLine, Engine)
    except Exception as error:
        return {"stock_error": type(error).__name__}
    finally:
        torch.distributed.destroy_process_group()
    return {"stock_error": None}


def test_distributed_trains_on_cpu(two_processes):
    expected = linear(seed=0)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    for step in (1, 2, 3):
        batches = [line_batch(step, rank) for rank in range(2)]
        inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        optimizer.zero_grad()
        nn.functional.mse_loss(expected(inputs), targets).backward()
        optimizer.step()
    assert two_processes[0]["weights"] == two_processes[1]["weights"]
    for parameter, values in zip(expected.parameters(), two_processes[0]["weights"], strict=True):
        torch.testing.assert_close(torch.tensor(values), parameter.detach())


def test_distributed_knows_its_ranks_on_cpu(two_processes):
    assert [(result["rank"], result["world_size"], result["device"]) for result in two_processes] == [
        (0, 2, "cpu"),
        (1, 2, "cpu"),
    ]


def test_all_processes_validate(two_processes):
    assert [result["validations"] for result in two_processes] == [[3], [3]]


def test_no_wrapper_outlives_the_process_group(two_processes):
    # freed after it, DistributedDataParallel over gloo hung in one run of three
    assert [result["unwrapped"] for result in two_processes] == [True, True]


def test_betty_distributed_divides_by_zero_on_cpu(two_processes):
    assert [result["stock_error"] for result in two_processes] == ["ZeroDivisionError", "ZeroDivisionError"]


if __name__ == "__main__":
    answer, second_port = sys.argv[1:]
    results = mended_process()
    os.environ["MASTER_PORT"] = second_port
    Path(answer).write_text(json.dumps(results | stock_process()))
