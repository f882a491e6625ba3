"""Inner rates alpha[l, k]: how far inner step k moves the parameters of layer l (paper, section 3 and appendix D).

Rates are stored as logarithms, alpha = exp(rho), so they stay positive however the outer optimizer moves rho. The
authors' code leaves them free, and with a rate of 1e-5 one outer step of 3e-5 turns it negative.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Granularity = Literal["per_step_per_layer", "per_step", "per_layer", "per_tensor", "static"]
GRANULARITIES = get_args(Granularity)


class InnerRates(nn.Module):
    """Positive inner rates for every adapted tensor and inner step.

    ``granularity`` says what is learned apart: ``per_step_per_layer`` (the paper), ``per_step`` (one rate for all
    layers), ``per_layer`` (one rate for all steps), ``per_tensor`` (per step and per parameter tensor, as the authors'
    code does), or ``static`` (one constant, not learned).

    Beyond the trained number of steps N, steps k >= N use the rates of step N - 1.

    Args:
        layer_of: layer name for each adapted parameter's name, e.g. ``{"transformer.h.0.ln_1.weight": "layer 0"}``.
        num_steps: N.
        initial: the rate that every entry starts from.
        granularity: see above.
    """

    def __init__(
        self,
        layer_of: dict[str, str],
        num_steps: int,
        initial: float,
        granularity: Granularity = "per_step_per_layer",
    ):
        super().__init__()
        self.granularity = granularity
        self.num_steps = num_steps
        self._row_of = self._rows(layer_of)
        self.row_names = list(dict.fromkeys(self._row_of.values()))
        columns = 1 if granularity in ("per_layer", "static") else num_steps
        log_rates = torch.full((len(self.row_names), columns), math.log(initial))
        self.log_rates = nn.Parameter(log_rates, requires_grad=granularity != "static")

    @property
    def names(self) -> list[str]:
        """The adapted parameters."""
        return list(self._row_of)

    def _rows(self, layer_of: dict[str, str]) -> dict[str, str]:
        if self.granularity == "per_tensor":
            return {name: name for name in layer_of}
        if self.granularity in ("per_step", "static"):
            return dict.fromkeys(layer_of, "all layers")
        return dict(layer_of)

    def at(self, inner_step: int) -> dict[str, Tensor]:
        """The scalar rate of each adapted parameter, by its name, for inner step ``inner_step`` (0-based)."""
        column = min(inner_step, self.log_rates.shape[1] - 1)
        rates = self.log_rates[:, column].exp().unbind()
        by_row = dict(zip(self.row_names, rates, strict=True))
        return {name: by_row[row] for name, row in self._row_of.items()}

    def table(self) -> Tensor:
        """Rates as [rows, N], detached: what the heat map draws and the checkpoint describes."""
        return self.log_rates.detach().exp().expand(-1, self.num_steps)
