"""Betty 0.2.1, mended: the only module that knows Betty's defects.

Every mend is a subclass or an override, and ``tests/test_mended_betty.py`` holds a test for each that fails on the
class it mends. What is mended, in the order of the code below:

1. ``Problem(config=None)`` crashes although None is the default.
2. Optimizers are rebuilt from class defaults, so parameter groups (learning rate, weight decay) are lost; AdamW of
   torch 2.13 cannot be rebuilt at all.
3. Schedulers are rebuilt with them, and ``accelerator.prepare`` would step them once per process.
4. ``strategy="accelerate"``: the engine reads an ``accelerator`` that nothing creates, and each problem makes its own.
5. ``strategy="distributed"`` divides by the number of CUDA devices, also where there is none.
6. ``EarlyStopping`` never sets the ``patience`` that it reads.
7. Validation runs on rank 0 only, which deadlocks whatever needs all ranks.
8. ``Engine.run`` cannot go on from a saved step, nothing saves one, and the last step may go unvalidated.
9. ``IterativeProblem``, the unrolled level, cannot start: ``UnrolledProblem`` takes its place.
10. ``cg`` is wrong for ``cg_alpha`` other than 1, and takes one step size for all tasks of a batch.
11. Implicit functions want a level that owns its parameters; ``ImplicitInnerProblem`` is one whose inner loop starts
    from the upper level's, task by task.

Betty's differentiable AdamW, which returns no parameters, is not used: inner optimizers are in ``inner/optimizers.py``.
"""

import gc
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from betty.hypergradient import jvp_fn_mapping
from betty.logging.logger_base import get_logger
from betty.misc.early_stopping import EarlyStopping
from betty.problems import ImplicitProblem, Problem
from betty.utils import log_from_loss_dict
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


class ProblemMends:
    """Mends 1 to 4, for any of Betty's problem classes; to be named before the class that it mends."""

    def __init__(self, name: str, config: Config | None = None, **options: Any):
        self._engine_accelerator: Accelerator | None = None
        super().__init__(name, config if config is not None else Config(), **options)

    @property
    def accelerator(self) -> Accelerator | None:
        """The engine's accelerator; the one that Betty makes for each problem is dropped."""
        return self._engine_accelerator

    @accelerator.setter
    def accelerator(self, value: Accelerator | None) -> None:
        pass

    def configure_distributed_training(self, dictionary: dict) -> None:
        super().configure_distributed_training(dictionary)
        self._engine_accelerator = dictionary.get("accelerator")

    def patch_optimizer(self) -> None:
        if self._strategy in ("zero", "fsdp"):
            super().patch_optimizer()  # these shard the state, so the optimizer has to be rebuilt
        elif self._strategy == "accelerate" and self.optimizer is not None:
            self.optimizer = self.accelerator.prepare_optimizer(self.optimizer)

    def patch_scheduler(self) -> None:
        if self._strategy in ("zero", "fsdp"):
            super().patch_scheduler()  # it has to follow the rebuilt optimizer


class MendedProblem(ProblemMends, Problem):
    """Betty's ``Problem`` with the mends."""


class MendedImplicitProblem(ProblemMends, ImplicitProblem):
    """Betty's ``ImplicitProblem`` with the mends: a level that owns a module and an optimizer."""

    def backward(self, loss: Tensor, params: list, paths: list, **options: Any) -> None:
        if self.config.first_order:  # Betty asks all levels below for an implicit gradient; unrolled ones have none
            paths = [path for path in paths if getattr(path[1], "has_implicit_gradient", True)]
        super().backward(loss, params, paths, **options)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]


class MendedEarlyStopping(EarlyStopping):
    """Mend 6. Stops after ``tolerance`` validations without improvement; its state can be saved."""

    def __init__(self, metric: str, tolerance: int, mode: str):
        super().__init__(metric=metric, tolerance=tolerance, mode=mode)
        self.patience = tolerance

    @property
    def reached(self) -> bool:
        """Whether the last validation said to stop."""
        return self.counter >= self.patience

    def state_dict(self) -> dict:
        return {"best_score": self.best_score, "counter": self.counter}

    def load_state_dict(self, state: dict) -> None:
        self.best_score, self.counter = state["best_score"], state["counter"]


class MendedEngine(Engine):
    """Mends 4 to 8. ``accelerator`` is used with ``EngineConfig(strategy="accelerate")``; made if not given."""

    def __init__(
        self,
        problems: list[Problem],
        config: EngineConfig | None = None,
        dependencies: dict | None = None,
        env: Any = None,
        accelerator: Accelerator | None = None,
    ):
        self.accelerator = accelerator
        get_logger().setLevel("WARNING")  # Betty prints its progress on stdout, where ours goes
        super().__init__(problems, config, dependencies, env)

    def parse_config(self) -> None:
        super().parse_config()
        if self.config.early_stopping:
            self.early_stopping = MendedEarlyStopping(
                self.config.early_stopping_metric,
                self.config.early_stopping_tolerance,
                self.config.early_stopping_mode,
            )

    def configure_systems(self) -> dict:
        if self._strategy == "accelerate":
            self.accelerator = self.accelerator or Accelerator()
            self._world_size = self.accelerator.num_processes
            self._rank = self.accelerator.process_index
            self._local_rank = self.accelerator.local_process_index
            self.device = self.accelerator.device
        elif self._strategy == "distributed" and not torch.cuda.is_available():
            dist.init_process_group(backend="gloo")
            self._world_size, self._rank = dist.get_world_size(), dist.get_rank()
            self._local_rank = int(os.environ.get("LOCAL_RANK", self._rank))
            self.device = torch.device("cpu")
        else:
            return super().configure_systems()
        return {
            "strategy": self._strategy,
            "backend": self._backend,
            "world_size": self._world_size,
            "rank": self._rank,
            "local_rank": self._local_rank,
            "accelerator": self.accelerator,
        }

    def do_validation(self) -> bool:
        return self.is_implemented("validation")

    def run(self) -> None:
        """``Engine.run`` from ``global_step`` on, which is 0 unless ``load_state_dict`` moved it."""
        self.train()
        while self.global_step < self.train_iters:
            self.global_step += 1
            self.train_step()
            due = self.global_step % self.valid_step == 0 or self.global_step == self.train_iters
            stop = due and self.do_validation() and self._validate()
            self.iteration_end()
            if stop:
                break
        self.cleanup()

    def cleanup(self) -> None:
        for problem in self.problems:
            if self._strategy == "distributed" and isinstance(problem.module, DistributedDataParallel):
                problem.module = problem.module.module
        gc.collect()  # a wrapper that outlives the process group now and then hangs when it is freed
        super().cleanup()

    def iteration_end(self) -> None:
        """Called when an iteration and its validation are over: the moment at which state can be saved."""

    def _validate(self) -> bool:
        """Run ``validation`` on every rank; True if early stopping says so."""
        self.eval()
        stats = self.validation() or {}
        self.logger.info(f"[Validation] [Global Step {self.global_step}] {log_from_loss_dict(stats)}")
        self.logger.log(stats, tag="validation", step=self.global_step)
        self.train()
        return self.early_stopping is not None and self.early_stopping(stats)

    def state_dict(self) -> dict:
        """Everything a run needs to go on bit for bit: step counters, early stopping, and each problem's state.

        Raises:
            RuntimeError: in the middle of an unrolled inner loop, whose graph cannot be saved.
        """
        for problem in self.problems:
            if isinstance(problem, UnrolledProblem) and not problem._inner_loop_start:
                raise RuntimeError(f"The inner loop of {problem.name} is not over: save between two outer steps.")
        return {
            "global_step": self.global_step,
            "early_stopping": self.early_stopping.state_dict() if self.early_stopping else None,
            "counts": {problem.name: problem.count for problem in self.problems},
            "problems": {problem.name: problem.state_dict() for problem in self.problems if problem.optimizer},
        }

    def load_state_dict(self, state: dict) -> None:
        self.global_step = state["global_step"]
        if self.early_stopping:
            self.early_stopping.load_state_dict(state["early_stopping"])
        for problem in self.problems:
            problem._count = state["counts"][problem.name]
            if problem.name in state["problems"]:
                problem.load_state_dict(state["problems"][problem.name])


class UnrolledProblem(MendedProblem):
    """Mend 9: a lower level whose updates stay in the autograd graph, so that the upper level differentiates them.

    One engine iteration is one update. A subclass gives ``start`` (the parameters at the beginning of an inner loop)
    and ``moved`` (an update of them, by a gradient that it takes itself); what a set of parameters is, it decides.
    """

    has_implicit_gradient = False

    def __init__(self, name: str, config: Config | None = None, **options: Any):
        options.setdefault("module", torch.nn.Identity())  # Betty wants a module; the upper level owns the real one
        super().__init__(name, config, **options)
        if self.gas > 1:
            raise ValueError("gradient_accumulation must be 1 here: every inner step needs all of its gradient.")
        self.fast: Any = None
        self.inner_step = 0
        self._moved: Any = None

    def start(self) -> Any:
        """The parameters from which the inner loop starts, connected to what the upper level trains."""
        raise NotImplementedError

    def moved(self, fast: Any, batch: Any, inner_step: int) -> tuple[Any, Tensor]:
        """Inner step ``inner_step`` (0-based): new parameters, a differentiable function of ``fast``, and the loss."""
        raise NotImplementedError

    def on_inner_loop_start(self) -> None:
        self.fast, self.inner_step = self.start(), 0

    def training_step(self, batch: Any) -> Tensor:
        self._moved, loss = self.moved(self.fast, batch, self.inner_step)
        return loss

    def backward(self, loss, params, paths, create_graph=True, retain_graph=False, allow_unused=True) -> None:
        pass  # ``moved`` took the gradient

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.fast, self._moved = self._moved, None
        self.inner_step += 1

    def end_inner_loop(self) -> None:
        """Forget the inner loop's graph: the upper level has its gradient."""
        self.fast = None

    def parameters(self) -> list[Tensor]:
        return []  # nothing here is a leaf that an optimizer or a broadcast may touch

    trainable_parameters = parameters

    def zero_grad(self) -> None:
        pass

    def patch_everything(self) -> None:
        pass

    def cache_states(self) -> None:
        raise NotImplementedError("roll_back makes no sense here: every inner loop starts from the upper level")

    recover_states = cache_states


class ImplicitInnerProblem(UnrolledProblem):
    """Mend 11: a lower level whose end Betty's implicit functions differentiate, from ``Config.type``.

    After the last step the parameters become leaves, and ``training_step`` the inner objective as a function of them
    and of what the upper level trains, summed over tasks. A subclass also gives ``leaves_of`` and ``objective``.
    """

    has_implicit_gradient = True

    leaves: Sequence[Tensor] = ()
    """phi at the end of the inner loop, each tensor with the tasks along its first dimension."""
    _at_leaves: Any = None

    def leaves_of(self, fast: Any) -> tuple[Any, Any, list[Tensor]]:
        """``fast`` as the upper level uses it, the same as a function of leaves alone, and those leaves."""
        raise NotImplementedError

    def objective(self, at_leaves: Any, batch: Any) -> Tensor:
        """The inner objective, summed over tasks, with the upper level's parameters attached."""
        raise NotImplementedError

    def on_inner_loop_start(self) -> None:
        self.leaves, self._at_leaves = (), None
        super().on_inner_loop_start()

    def training_step(self, batch: Any) -> Tensor:
        if self.leaves:
            return self.objective(self._at_leaves, batch)
        return super().training_step(batch)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.inner_step == self.config.unroll_steps:
            self.fast, self._at_leaves, self.leaves = self.leaves_of(self.fast)

    def end_inner_loop(self) -> None:
        super().end_inner_loop()
        self.leaves, self._at_leaves = (), None

    def parameters(self) -> list[Tensor]:
        return list(self.leaves)

    trainable_parameters = parameters


def conjugate_gradient(vector: list[Tensor], curr: Problem, prev: Problem, sync: bool) -> list[Tensor] | None:
    """Mend 10: Betty's ``cg`` with x the solution of (alpha H) x = v, whose alpha x it then goes on with.

    Betty leaves alpha out of the residual. Where ``curr`` is an ``ImplicitInnerProblem``, H has a block for each task,
    and each gets its own step sizes: with common ones M iterations no longer solve M dimensions.

    Args:
        vector: v, as the parameters of ``curr``.
        sync: add the result to ``.grad`` of what ``prev`` trains, instead of returning it.
    """
    assert not curr.paths, "cg is not for more than two levels"
    parameters, alpha = curr.trainable_parameters(), curr.config.cg_alpha
    num_blocks = parameters[0].shape[0] if isinstance(curr, ImplicitInnerProblem) else 1  # tasks come first

    def dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
        return sum((left * right).reshape(num_blocks, -1).sum(1) for left, right in zip(a, b, strict=True))

    def plus(a: list[Tensor], steps: Tensor, b: list[Tensor]) -> list[Tensor]:
        return [
            left + (steps.view(-1, *[1] * (right.ndim - 1)) if num_blocks > 1 else steps) * right
            for left, right in zip(a, b, strict=True)
        ]

    loss = curr.training_step_exec(curr.cur_batch)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    x, r = [torch.zeros_like(part) for part in vector], list(vector)
    p, squared = r, dot(r, r)
    for _ in range(curr.config.cg_iterations):
        product = torch.autograd.grad(gradient, parameters, grad_outputs=p, retain_graph=True)
        product = [alpha * part for part in product]
        curvature = dot(p, product)
        # a task whose residual is 0 has arrived: 0 / 0
        step = torch.where(curvature == 0, 0.0, squared / torch.where(curvature == 0, 1.0, curvature))
        x, r = plus(x, step, p), plus(r, -step, product)
        before, squared = squared, dot(r, r)
        p = plus(r, torch.where(before == 0, 0.0, squared / torch.where(before == 0, 1.0, before)), p)
    x = [-alpha * part for part in x]
    upper = prev.trainable_parameters()
    if sync:
        torch.autograd.backward(gradient, inputs=upper, grad_tensors=x)
        return None
    return list(torch.autograd.grad(gradient, upper, grad_outputs=x, allow_unused=True))


jvp_fn_mapping["cg"] = conjugate_gradient
