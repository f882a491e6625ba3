"""Betty 0.2.1, mended: the only package that knows Betty's defects.

Every mend is a subclass or an override, and ``tests/mended_betty/`` holds a test for each that fails on the class it
mends. What is mended, where:

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
10. ``cg`` goes on from the residual before last, so that it is wrong from the second iteration on; leaves ``cg_alpha``
    out of the residual; and takes one step size for all tasks of a batch.
11. Implicit functions want a level that owns its parameters; ``ImplicitInnerProblem`` is one whose inner loop starts
    from the upper level's, task by task.

Betty's differentiable AdamW, which returns no parameters, is not used: inner optimizers are in ``inner/optimizers.py``.
"""

from reckoning_betty.mended_betty.engine import MendedEarlyStopping, MendedEngine
from reckoning_betty.mended_betty.implicit import ImplicitInnerProblem, conjugate_gradient
from reckoning_betty.mended_betty.problems import MendedImplicitProblem, MendedProblem, ProblemMends
from reckoning_betty.mended_betty.unrolled import UnrolledProblem

__all__ = [
    "ImplicitInnerProblem",
    "MendedEarlyStopping",
    "MendedEngine",
    "MendedImplicitProblem",
    "MendedProblem",
    "ProblemMends",
    "UnrolledProblem",
    "conjugate_gradient",
]
