"""Where training runs and in which numbers."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from lightning_fabric import Fabric

from greenrfm.training.distributed import several

Precision = Literal["bf16-mixed", "16-mixed", "32-true"]


def hardware_precision() -> Precision:
    """Return the fastest numbers that this machine computes in and that training survives.

    bfloat16 where the hardware has it; on older GPUs float16 with a gradient scaler; on a CPU without bfloat16
    instructions float32, for emulation is slower.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu.get_capabilities().get("avx512_bf16") else "32-true"


def can_fuse() -> bool:
    """Return whether AdamW may be fused: it unscales float16 gradients itself, which clipping must see unscaled."""
    return hardware_precision() != "16-mixed"


def precision_of(fabric: Fabric) -> str:
    """Return the numbers that `fabric` computes in."""
    return str(fabric.strategy.precision.precision)


def make_fabric(precision: Precision | None = None) -> Fabric:
    """Return Fabric on the GPU where there is one, else on the CPU, in `precision` or what the hardware computes in.

    Under `torchrun` it is launched over all its processes.
    """
    # Fabric announces its precision and processes on stderr, between the lines of our progress.
    for name in ("rank_zero", "distributed"):
        logging.getLogger(f"lightning_fabric.utilities.{name}").setLevel(logging.WARNING)
    kind = "gpu" if torch.cuda.is_available() else "cpu"
    numbers = precision or hardware_precision()
    return several(kind, numbers) or Fabric(accelerator=kind, devices=1, precision=numbers)


def loss_scale(fabric: Fabric) -> float | None:
    """Return by how much `fabric` scales losses against underflow in float16; None in other numbers."""
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    return None if scaler is None else float(scaler.get_scale())
