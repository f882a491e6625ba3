"""Finds methods by the name that ``hypergradient=`` takes."""

import difflib

from reckoning_betty.errors import UserError
from reckoning_betty.hypergradients.conjugate_gradient import ConjugateGradient
from reckoning_betty.hypergradients.darts import Darts
from reckoning_betty.hypergradients.first_order import FirstOrder
from reckoning_betty.hypergradients.forward_over_reverse import ForwardOverReverse
from reckoning_betty.hypergradients.method import HypergradientMethod
from reckoning_betty.hypergradients.neumann import Neumann
from reckoning_betty.hypergradients.sama import Sama
from reckoning_betty.hypergradients.truncated import Truncated
from reckoning_betty.hypergradients.unrolled import Unrolled

METHODS: dict[str, type[HypergradientMethod]] = {
    method.name: method
    for method in (
        Unrolled,
        ForwardOverReverse,
        Truncated,
        FirstOrder,
        Darts,
        Sama,
        Neumann,
        ConjugateGradient,
    )
}


def find_method(name: str) -> type[HypergradientMethod]:
    """The method called ``name``.

    Raises:
        UserError: there is none; the message lists the known ones.
    """
    if name in METHODS:
        return METHODS[name]
    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"There is no hypergradient '{name}': {hint}hypergradient= takes one of {', '.join(METHODS)}.")
