"""The memory bill of one process, and of what it is made."""

from dataclasses import dataclass

from reckoning_betty.errors import UserError

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Bytes.

    ``peak`` is the most that is held at one time; the other entries need not all be there at that time, and
    temporaries are in the peak alone.
    """

    weights: int
    """The model's parameters and buffers, and the inner rates."""
    optimizer: int
    """The outer AdamW's two moments."""
    gradients: int
    """Of the trained parameters, when the backward pass is over."""
    fast_weights: int
    """theta_N's own state: token factors, task copies, vectors, an inner optimizer's memory."""
    activations_per_step: int
    """What an inner step leaves for the backward pass, over and above the fast weights."""
    peak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A bill of whole weights, and what has to be known to derive that of another strategy from it."""

    bill: Bill
    form: str
    """Of the fast weights, as in ``FastWeightsPlan.form``."""
    holds_copies: bool
    """Whether theta_0's adapted matrices stay as whole tensors in the graph."""
    matrices: int
    """Bytes of the weight matrices."""
    trained_matrices: int
    largest_matrix: int
    trained: int
    """Bytes of all that the outer level trains."""
    steps_matrices: bool = False
    """Whether the outer optimizer takes whole matrices, as Muon does."""

    def refuse_parts(self) -> None:
        """Raises ``UserError`` where the matrices or their gradients cannot be parted among processes."""
        if self.steps_matrices:
            raise UserError("not with reckoning.optimizer=muon, which steps whole matrices")
