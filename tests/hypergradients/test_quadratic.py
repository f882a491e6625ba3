"""Every method against the closed form of the quadratic problem, in float64 and through Betty's engine."""

import pytest
import torch

from problems.quadratic import ClosedForm, QuadraticTasks, solve
from reckoning_betty.hypergradients.conjugate_gradient import ConjugateGradient
from reckoning_betty.hypergradients.darts import Darts
from reckoning_betty.hypergradients.first_order import FirstOrder
from reckoning_betty.hypergradients.forward_over_reverse import ForwardOverReverse
from reckoning_betty.hypergradients.neumann import Neumann
from reckoning_betty.hypergradients.registry import METHODS
from reckoning_betty.hypergradients.sama import Sama
from reckoning_betty.hypergradients.truncated import Truncated
from reckoning_betty.hypergradients.unrolled import Unrolled
from reckoning_betty.inner.optimizers import GradientDescent, Proximal

N, SIZE = 4, 5


def problem(conditioning=10.0, strength=0.5, num_tasks=3):
    tasks = QuadraticTasks.random(num_tasks, SIZE, conditioning, strength)
    theta = torch.linspace(-1, 2, SIZE, dtype=torch.float64)
    alpha = torch.tensor([0.9, 0.3, 0.7, 0.5], dtype=torch.float64)
    return tasks, theta, alpha


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("strength", [0.5, 0.0])
@pytest.mark.parametrize("conditioning", [1.0, 10.0, 1e4])
@pytest.mark.parametrize(
    "method",
    [Unrolled(), ForwardOverReverse(), FirstOrder(), *(Truncated(last_steps=steps) for steps in range(N + 1))],
    ids=lambda method: f"{method.name} {getattr(method, 'last_steps', '')}".strip(),
)
def test_explicit_methods_are_exact(method, conditioning, strength):
    given = problem(conditioning, strength)
    found = solve(given[0], method, *given[1:]).gradients
    differentiated = [method.differentiates(k, N) for k in range(N)]
    of_theta, of_alpha = ClosedForm(*given).through_the_path(differentiated)
    assert relative(found["theta"], of_theta) < 1e-10
    assert relative(found["alpha"], of_alpha) < 1e-10


def test_the_closed_form_has_the_fixed_point_of_many_steps():
    """Of a long inner loop the exact hypergradient is the implicit one, which the two formulas do not share."""
    tasks, theta, _ = problem()
    form = ClosedForm(tasks, theta, torch.full((400,), 0.9, dtype=torch.float64))
    assert relative(form.through_the_path([True] * 400)[0], form.implicit()) < 1e-12
    assert relative(form.scaled_first_order(), form.implicit()) > 0.1


@pytest.mark.parametrize("alpha", [0.3, 1.1])
def test_neumann_is_its_series_and_converges(alpha):
    given = problem()
    form = ClosedForm(*given)
    for iterations in (0, 1, 7):
        found = solve(given[0], Neumann(iterations=iterations, alpha=alpha), *given[1:]).gradients
        assert relative(found["theta"], form.series(alpha, iterations)) < 1e-10
        assert relative(found["theta"], form.implicit()) > 1e-4
    found = solve(given[0], Neumann(iterations=200, alpha=alpha), *given[1:]).gradients
    assert relative(found["theta"], form.implicit()) < 1e-6


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("conditioning", [10.0, 1e4])
def test_cg_is_right_after_as_many_iterations_as_dimensions(alpha, conditioning):
    given = problem(conditioning)
    form = ClosedForm(*given)
    found = solve(given[0], ConjugateGradient(iterations=SIZE, alpha=alpha), *given[1:]).gradients
    assert relative(found["theta"], form.implicit()) < 1e-10
    early = solve(given[0], ConjugateGradient(iterations=2, alpha=alpha), *given[1:]).gradients
    assert 1e-6 < relative(early["theta"], form.implicit()) < 0.5


def test_cg_goes_on_after_it_arrived():
    given = problem(conditioning=1.0)  # one iteration is enough
    found = solve(given[0], ConjugateGradient(iterations=20), *given[1:]).gradients
    assert relative(found["theta"], ClosedForm(*given).implicit()) < 1e-10


@pytest.mark.parametrize("conditioning", [1.0, 1e4])
@pytest.mark.parametrize("radius", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("method", [Darts, Sama])
def test_darts_and_sama_take_the_identity_for_the_inverse(method, radius, conditioning):
    """lambda v whatever the radius, as grad_theta J is linear; |A^-1 v - v| is at most max |1 - A| |A^-1 v|."""
    given = problem(conditioning, strength=0.2, num_tasks=1)
    form = ClosedForm(*given)
    found = solve(given[0], method(radius=radius), *given[1:]).gradients["theta"]
    assert relative(found, form.scaled_first_order()) < 1e-8
    bound = (1 - torch.linalg.eigvalsh(form.matrix)).abs().max().item()
    assert 0.05 < relative(found, form.implicit()) <= bound * (1 + 1e-12)  # met exactly where A is a multiple of 1


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.is_implicit])
def test_rates_go_through_the_first_order_path_or_are_frozen(name):
    given = problem()
    found = solve(given[0], METHODS[name](), *given[1:]).gradients
    _, of_alpha = ClosedForm(*given).through_the_path([False] * N)
    assert relative(found["alpha"], of_alpha) < 1e-10
    frozen = solve(given[0], METHODS[name](rates="frozen"), *given[1:]).gradients
    assert frozen["alpha"] is None
    torch.testing.assert_close(frozen["theta"], found["theta"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_brings_the_outer_loss_down(name):
    tasks, theta, alpha = problem()
    losses = solve(tasks, METHODS[name](), theta, alpha, outer_steps=20, learning_rate=0.05).losses
    assert len(losses) == 20
    assert losses[-1] < losses[0]


def test_conditioning_is_tunable():
    curvature = QuadraticTasks.random(2, 6, 50.0, 0.0).curvature
    values = torch.linalg.eigvalsh(curvature)
    torch.testing.assert_close(values[:, -1] / values[:, 0], torch.full((2,), 50.0, dtype=torch.float64))


def test_the_proximal_term_pulls_towards_the_start():
    tasks, theta, _ = problem(strength=1e3)
    descent = Proximal(GradientDescent(), 1e3)
    phi, state = theta.clone(), ()
    for step in range(50):
        gradient = tasks.curvature[0] @ (phi - tasks.center[0])
        phi, state = descent.moved(phi, gradient, torch.tensor(1e-3), state, step)
    assert (phi - theta).abs().max() < 0.01
