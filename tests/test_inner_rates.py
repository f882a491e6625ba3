import pytest
import torch
from tiny_models import MODELS

from reckoning_betty.inner.rates import GRANULARITIES, InnerRates
from reckoning_betty.models.causal_lm import layer_names

LAYERS = {"wte": "embeddings", "h.0.w": "layer 0", "h.0.b": "layer 0", "h.1.w": "layer 1", "ln": "head"}


@pytest.mark.parametrize(
    ("granularity", "shape"),
    [
        ("per_step_per_layer", (4, 3)),
        ("per_step", (1, 3)),
        ("per_layer", (4, 1)),
        ("per_tensor", (5, 3)),
        ("static", (1, 1)),
    ],
)
def test_number_of_rates(granularity, shape):
    rates = InnerRates(LAYERS, 3, 0.1, granularity)
    assert rates.log_rates.shape == shape
    assert rates.table().shape == (shape[0], 3)
    assert set(rates.at(0)) == set(LAYERS)


def test_granularities_are_all_tested():
    assert len(GRANULARITIES) == 5


def test_parameters_of_a_layer_share_a_rate_and_layers_do_not():
    rates = InnerRates(LAYERS, 3, 0.1)
    with torch.no_grad():
        rates.log_rates.copy_(torch.arange(12.0).view(4, 3).log1p())
    at = {name: rate.item() for name, rate in rates.at(1).items()}
    assert at == pytest.approx({"wte": 2.0, "h.0.w": 5.0, "h.0.b": 5.0, "h.1.w": 8.0, "ln": 11.0})


def test_rates_stay_positive_under_a_step_far_larger_than_they_are():
    rates = InnerRates(LAYERS, 3, 1e-5)
    optimizer = torch.optim.SGD(rates.parameters(), lr=3.0)
    rates.table()  # detached
    sum(rate for rate in rates.at(0).values()).backward()
    rates.log_rates.grad.fill_(1.0)
    optimizer.step()
    assert (rates.table() > 0).all()


def test_beyond_the_trained_steps_the_last_rate_goes_on():
    rates = InnerRates(LAYERS, 3, 0.1)
    with torch.no_grad():
        rates.log_rates.add_(torch.arange(3.0))
    assert rates.at(7)["wte"] == rates.at(2)["wte"]
    assert rates.at(2)["wte"] > rates.at(1)["wte"]


@pytest.mark.parametrize("architecture", MODELS)
def test_every_parameter_has_a_layer(architecture):
    model = MODELS[architecture](20)
    layers = layer_names(model)
    assert list(layers) == [name for name, _ in model.named_parameters()]
    assert list(dict.fromkeys(layers.values())) == ["embeddings", "layer 0", "layer 1", "head"]
