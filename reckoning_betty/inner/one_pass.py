"""Fast weights of all tasks in one pass of the model: the ``dual`` and ``batched`` forms.

Under gradient descent, matrices are held as in ``matrices.py`` (token factors, or one per task) and all else, norms and
biases, as one tensor [B, *shape]. Other inner optimizers need whole gradients: then matrices are such tensors too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from reckoning_betty.distributed.sharding import gathered, is_sharded
from reckoning_betty.inner.attention import twice_differentiable_attention
from reckoning_betty.inner.losses import Loss, parts_of
from reckoning_betty.inner.low_rank import LowRank
from reckoning_betty.inner.matrices import AdaptedMatrix, Origin, Rows
from reckoning_betty.inner.optimizers import GradientDescent, InnerOptimizer, State
from reckoning_betty.inner.places import Factors, Places, Use, without_padding
from reckoning_betty.inner.precision import multiply, product_dtype
from reckoning_betty.inner.products import Anchor, Product, TransposedProduct, Update, by_task
from reckoning_betty.inner.recompute import Tree, recomputed
from reckoning_betty.inner.stacked import Stacked
from reckoning_betty.inner.stand_ins import MatrixStandIn, StandIn, VectorStandIn, standing_in


@dataclass(frozen=True, slots=True, kw_only=True)
class OnePassWeights:
    """theta_k of B tasks. Immutable: ``step`` returns theta_{k+1}.

    Args:
        model: owns theta; its parameters stay in place.
        places: where the adapted parameters are.
        matrices: M_k of the matrices that are held as such, by name.
        tokens: what ties each of them to the graph (``matrices.py``).
        values: theta_k of all other adapted parameters, [B, *shape].
        optimizer: gradient descent wherever there are ``matrices``.
        states: what the optimizer remembers of each of ``values``.
        checkpoint: keep no graph of an inner step until the hypergradient comes back to it.
        steps_done: k.
    """

    model: nn.Module
    places: Places
    num_tasks: int
    matrices: dict[str, AdaptedMatrix]
    tokens: dict[str, Tensor]
    values: dict[str, Tensor]
    optimizer: InnerOptimizer
    states: dict[str, State]
    checkpoint: bool = False
    steps_done: int = 0

    @classmethod
    def start(
        cls,
        model: nn.Module,
        names: Sequence[str],
        num_tasks: int,
        optimizer: InnerOptimizer,
        is_low_rank: Callable[[int, int], bool],
        checkpoint: bool = False,
        num_steps: int = 1,
    ) -> "OnePassWeights":
        """theta_0 = theta.

        Args:
            is_low_rank: decides for a matrix [out, in] by its two sizes, under gradient descent.
            num_steps: N, for which memory is reserved; more steps are possible.
        """
        places = Places.of(model, names)
        matrices, tokens, values = {}, {}, {}
        for name, parameter in places.parameters.items():
            still = name not in places.moving
            if still or (optimizer.linear and parameter.ndim == 2):
                origin = Origin(parameter, name in places.transposed, product_dtype(model))
                low_rank = still or is_low_rank(*parameter.shape)
                matrices[name] = LowRank(origin, num_tasks, num_steps) if low_rank else Stacked(origin, num_tasks)
                tokens[name] = Anchor.apply(parameter, origin)
            else:
                values[name] = gathered(parameter).expand(num_tasks, *parameter.shape)
        return cls(
            model=model,
            places=places,
            num_tasks=num_tasks,
            matrices=matrices,
            tokens=tokens,
            values=values,
            optimizer=optimizer,
            states=dict.fromkeys(values, ()),
            checkpoint=checkpoint,
        )

    def logits(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """[B, R, T] to [B, R, T, V], each task under its own weights."""
        return self._run(tokens, positions, [])

    def step(
        self,
        loss_of: Loss | Sequence[Loss],
        rates: dict[str, Tensor],
        create_graph: bool,
    ) -> tuple["OnePassWeights", Tensor]:
        """One inner step, theta_{k+1,l} = theta_{k,l} - alpha[l,k] grad_l L(theta_k) under gradient descent.

        Args:
            loss_of: the tasks' losses [B] as a function of fast weights, which it asks for logits; or several that sum
                to them, whose gradients are taken one after the other and summed.
            rates: alpha by parameter name, scalars.
            create_graph: whether the hypergradient passes through the inner gradient (second order). Then the graphs of
                all passes are kept, unless ``checkpoint`` recomputes each by itself.

        Returns:
            theta_{k+1}, and the losses [B] under theta_k without graph.
        """
        *earlier, last = parts_of(loss_of)
        moved: dict[str, AdaptedMatrix] = {}
        factors: dict[str, list[Tensor]] = {}
        gradients: dict[str, Tensor] = {}
        total: Tensor | float = 0.0

        def run(function: Callable[..., Tree], *inputs: Tree) -> Tree:
            if self.checkpoint and create_graph:
                return recomputed(lambda given, graph: function(*given, graph), inputs, self.places.shared)
            return function(*inputs, create_graph)

        for loss_of_part in earlier:
            found, of_values, losses = run(partial(self._taken, loss_of_part), self.tokens, self.values, rates)
            gradients = {name: gradient + gradients.get(name, 0.0) for name, gradient in of_values.items()}
            total = total + losses
            self._subtract(found, moved, factors, 1 + len(earlier))
        inputs = (self.tokens, self.values, self.states, rates, gradients)
        found, values, states, losses = run(partial(self._taken_and_moved, last), *inputs)
        self._subtract(found, moved, factors, 1 + len(earlier))
        matrices, tokens = self.matrices | moved, dict(self.tokens)
        for name, new in moved.items():
            tokens[name] = Update.apply(self.tokens[name], new, self.matrices[name], *factors[name])
        after = replace(
            self, matrices=matrices, tokens=tokens, values=values, states=states, steps_done=self.steps_done + 1
        )
        return after, total + losses

    def cut(self) -> "OnePassWeights":
        """The same values without history. They still require grad, so that outputs have gradients."""
        return replace(
            self,
            tokens={name: token.detach().requires_grad_() for name, token in self.tokens.items()},
            values={name: values.detach().requires_grad_() for name, values in self.values.items()},
            states={name: tuple(tensor.detach() for tensor in state) for name, state in self.states.items()},
        )

    def at_leaves(self) -> tuple["OnePassWeights", "OnePassWeights", list[Tensor]]:
        """The same values on top of their history, and as leaves alone; and these, [B, *shape] each.

        The cotangents of the first reach both the leaves and the history. There must be no ``matrices``.
        """
        leaves = {name: value.detach().requires_grad_() for name, value in self.values.items()}
        both = {name: leaf + (self.values[name] - self.values[name].detach()) for name, leaf in leaves.items()}
        return replace(self, values=both), replace(self, values=leaves), list(leaves.values())

    def _subtract(
        self,
        found: Factors,
        moved: dict[str, AdaptedMatrix],
        factors: dict[str, list[Tensor]],
        num_passes: int,
    ) -> None:
        """Take a pass's part of the step: ``moved`` gets M_{k+1} so far, ``factors`` those that have a gradient."""
        for name, pairs in found.items():
            flat = [tensor for pair in pairs for tensor in pair]
            kept = any(tensor.requires_grad for tensor in flat)
            factors.setdefault(name, []).extend(flat if kept else [])
            outer_products = [(Rows(left.detach()), right.detach()) for left, right in pairs]
            if name in moved:
                moved[name].subtract(outer_products, kept)
            else:
                moved[name] = self.matrices[name].minus(outer_products, num_passes, kept)

    def _taken(
        self,
        loss_of: Loss,
        tokens: dict[str, Tensor],
        values: dict[str, Tensor],
        rates: dict[str, Tensor],
        create_graph: bool,
    ) -> tuple[Factors, dict[str, Tensor], Tensor]:
        """The gradient of one pass: what moves the matrices (L and R of every use), that of all else, the losses."""
        uses: list[Use] = []
        losses = loss_of(_Recording(replace(self, tokens=tokens, values=values), uses))
        gradients = iter(self._gradients(losses.sum(), [*(use.y for use in uses), *values.values()], create_graph))
        factors: Factors = {}
        for use in uses:
            gradient = next(gradients)
            if gradient is not None:
                if not create_graph:  # the gradient is a constant, and so are the inputs that it is made of
                    use.x = use.x.detach()
                factors.setdefault(use.name, []).append(use.factors(gradient, rates[use.name], self.num_tasks))
        of_values = {}
        for (name, value), gradient in zip(values.items(), gradients, strict=True):
            of_values[name] = torch.zeros_like(value) if gradient is None else gradient  # not used in this pass
        return factors, of_values, losses.detach()

    def _taken_and_moved(
        self,
        loss_of: Loss,
        tokens: dict[str, Tensor],
        values: dict[str, Tensor],
        states: dict[str, State],
        rates: dict[str, Tensor],
        earlier: dict[str, Tensor],
        create_graph: bool,
    ) -> tuple[Factors, dict[str, Tensor], dict[str, State], Tensor]:
        """The same for the last pass; with the ``earlier`` ones' gradients of all else, its new values and states."""
        factors, gradients, losses = self._taken(loss_of, tokens, values, rates, create_graph)
        new_values, new_states = {}, {}
        for name, value in values.items():
            gradient = gradients[name] + earlier[name] if earlier else gradients[name]
            new_values[name], new_states[name] = self.optimizer.moved(
                value, gradient, rates[name], states[name], self.steps_done
            )
        return factors, new_values, new_states, losses

    def _gradients(self, loss: Tensor, inputs: Sequence[Tensor], create_graph: bool) -> tuple[Tensor | None, ...]:
        origins = [matrix.origin for matrix in self.matrices.values()]
        for origin in origins:
            origin.in_inner_gradient = True
        try:
            return torch.autograd.grad(loss, inputs, create_graph=create_graph, allow_unused=True)
        finally:
            for origin in origins:
                origin.in_inner_gradient = False

    def _run(self, tokens: Tensor, positions: Tensor | None, uses: list[Use]) -> Tensor:
        rows = tokens.shape[0] * tokens.shape[1]
        stand_ins: dict[str, StandIn] = {}
        for name, parameter in self.places.parameters.items():
            if name in self.matrices:
                linear, lookup = self._recorded_linear(name, uses), self._recorded_lookup(name, uses, rows)
                stand_ins[name] = MatrixStandIn(name, parameter, self.num_tasks, linear, lookup)
            elif parameter.ndim == 2:
                linear, lookup = self._plain_linear(name), self._plain_lookup(name, rows)
                stand_ins[name] = MatrixStandIn(name, parameter, self.num_tasks, linear, lookup)
            else:
                stand_ins[name] = VectorStandIn(name, parameter, self.num_tasks, self.values[name])
        replaced = {place: stand_ins[name] for place, name in self.places.modules.items()} | self.places.activations
        with standing_in(replaced), twice_differentiable_attention(self.model):
            # No attention mask: padding stands on the right, where causal attention cannot see it.
            places = {} if positions is None else {"position_ids": positions.flatten(0, 1)}
            logits = self.model(input_ids=tokens.flatten(0, 1), use_cache=False, **places).logits
        return logits.unflatten(0, tokens.shape[:2])

    def _recorded_linear(self, name: str, uses: list[Use]):
        def linear(x: Tensor, bias: Tensor | None) -> Tensor:
            y = Product.apply(x, bias, self.tokens[name], self.matrices[name])
            if name in self.places.moving:
                uses.append(Use(name, x, y))
            return y

        return linear

    def _recorded_lookup(self, name: str, uses: list[Use], rows: int):
        def lookup(ids: Tensor, padding: int | None) -> Tensor:
            ids = ids.expand(rows, -1)  # positions are the same for all rows, and often given once
            y = TransposedProduct.apply(ids, self.tokens[name], self.matrices[name])
            y, learned = without_padding(y, ids, padding)
            if name in self.places.moving:
                uses.append(Use(name, ids, y, learned))
            return y

        return lookup

    def _plain_linear(self, name: str):
        def linear(x: Tensor, bias: Tensor | None) -> Tensor:
            values = self.values[name] if name in self.places.transposed else self.values[name].mT
            y = multiply(by_task(x, self.num_tasks), values, product_dtype(self.model))
            y = y if bias is None else y + bias.unsqueeze(1)
            return y.view(*x.shape[:-1], y.shape[-1])

        return linear

    def _plain_lookup(self, name: str, rows: int):
        def lookup(ids: Tensor, padding: int | None) -> Tensor:
            ids = ids.expand(rows, -1)
            values = self.values[name]
            offsets = torch.arange(self.num_tasks, device=ids.device).unsqueeze(1) * values.shape[1]
            y = values.flatten(0, 1)[ids.reshape(self.num_tasks, -1) + offsets].view(*ids.shape, -1)
            return without_padding(y, ids, padding)[0]

        return lookup


@dataclass(slots=True)
class _Recording:
    """The fast weights as the inner loss sees them: every use of a matrix is written down."""

    fast: OnePassWeights
    uses: list[Use]

    def logits(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        return self.fast._run(tokens, positions, self.uses)


def logits_of(model: nn.Module, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
    """The model's own logits [R, T, V] for tokens [R, T]; sharded matrices are gathered one after another."""
    if product_dtype(model) is None and not any(map(is_sharded, model.parameters())):
        places = {} if positions is None else {"position_ids": positions}
        return model(input_ids=tokens, use_cache=False, **places).logits
    whole = OnePassWeights.start(model, [], 1, GradientDescent(), lambda *sizes: True)
    return whole.logits(tokens.unsqueeze(0), None if positions is None else positions.unsqueeze(0))[0]
