"""Where a model holds its adapted parameters, and what a forward pass does with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from reckoning_betty.distributed.sharding import is_sharded
from reckoning_betty.inner.precision import product_dtype
from reckoning_betty.inner.products import by_task
from reckoning_betty.inner.smooth import gelu


@dataclass(frozen=True, slots=True)
class Places:
    """Where a model holds its adapted parameters: tied ones in several places, Conv1D's transposed."""

    modules: dict[tuple[nn.Module, str], str]
    parameters: dict[str, nn.Parameter]
    """Those that move, those that are sharded, which no module can use as they are, and matrices to be rounded."""
    moving: frozenset[str]
    transposed: frozenset[str]
    shared: list[nn.Parameter]
    """Trained parameters that do not move."""
    activations: dict[tuple[nn.Module, str], Callable[[Tensor], Tensor]]
    """Activations whose derivatives are written out, in the place of the model's own."""

    @classmethod
    def of(cls, model: nn.Module, names: Sequence[str]) -> "Places":
        everything = dict(model.named_parameters())
        rounded = product_dtype(model) is not None
        still = [n for n, p in everything.items() if n not in names and (is_sharded(p) or (rounded and p.ndim == 2))]
        parameters = {name: everything[name] for name in [*names, *still]}
        name_of = {id(parameter): name for name, parameter in parameters.items()}
        modules, transposed, activations = {}, set(), {}
        for module in model.modules():
            for attribute, child in module.named_children():
                if isinstance(child, NewGELUActivation):
                    activations[module, attribute] = gelu
            for attribute, parameter in module._parameters.items():
                if id(parameter) in name_of:
                    modules[module, attribute] = name_of[id(parameter)]
                    if isinstance(module, Conv1D):
                        transposed.add(name_of[id(parameter)])
        shared = [p for name, p in everything.items() if p.requires_grad and name not in parameters]
        return cls(modules, parameters, frozenset(names), frozenset(transposed), shared, activations)


@dataclass(slots=True)
class Use:
    """One use of a matrix in a forward pass: y = x M^T, or for ids x a lookup of the rows y."""

    name: str
    x: Tensor
    y: Tensor
    learned: Tensor | None = None
    """For lookups, [.., 1]: 0 where the id is padding, whose row is not learned; None where all are."""

    def factors(self, gradient: Tensor, rate: Tensor, num_tasks: int) -> tuple[Tensor, Tensor]:
        """L and R of the use's part of the update, alpha dL/dM = L^T R, with dL/dy given."""
        gradient = by_task(gradient, num_tasks)
        if not self.x.dtype.is_floating_point:
            gradient = gradient if self.learned is None else gradient * by_task(self.learned, num_tasks)
            return self.x.reshape(num_tasks, -1), rate * gradient
        x = by_task(self.x, num_tasks)
        if gradient.shape[-1] <= x.shape[-1]:  # the rate goes to the smaller one
            return rate * gradient, x
        return gradient, rate * x


Factors = dict[str, list[tuple[Tensor, Tensor]]]
"""L and R of every use of a matrix in a pass, by the matrix's name."""


def without_padding(y: Tensor, ids: Tensor, padding: int | None) -> tuple[Tensor, Tensor | None]:
    """Looked up rows y, of which those of the id ``padding`` learn nothing, and 0 for these and 1 for others."""
    if padding is None:
        return y, None
    learned = (ids != padding).to(y.dtype).unsqueeze(-1)
    return y * learned + (y * (1 - learned)).detach(), learned
