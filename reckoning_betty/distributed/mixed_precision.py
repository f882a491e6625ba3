"""Accelerate's ``--mixed_precision`` as the precision of this library's products."""

import os
from collections.abc import Mapping
from dataclasses import replace

from reckoning_betty.config import RunConfig
from reckoning_betty.errors import UserError


def with_launched_precision(config: RunConfig, environment: Mapping[str, str] = os.environ) -> RunConfig:
    """``config`` with ``model.precision=bfloat16`` where the launch said ``--mixed_precision bf16``.

    Accelerate's own autocast and scaled losses are for models that it wraps, and never meet a hypergradient.

    Raises:
        UserError: another precision, or DeepSpeed, which would hold the weights themselves in bfloat16.
    """
    asked = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked == "no":
        return config
    if asked != "bf16":
        raise UserError(
            f"--mixed_precision {asked} is not possible, because hypergradients overflow or vanish in so few bits: "
            "launch with --mixed_precision bf16 or no."
        )
    if environment.get("ACCELERATE_USE_DEEPSPEED", "false").lower() in ("1", "true"):
        raise UserError(
            "--mixed_precision bf16 lets DeepSpeed hold the weights in bfloat16, where small steps are lost: launch "
            "with --mixed_precision no, and add model.precision=bfloat16."
        )
    return replace(config, model=replace(config.model, precision="bfloat16"))
