"""What each process of test_distributed.py does; run by torchrun, or alone with the whole batch.

torchrun --nproc-per-node 2 two_processes.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric

from greenrfm.training import align, distributed
from greenrfm.training.session import Session
from small_alignment import small_recipe, small_set

STAGE1 = ("stage1_vision.pt", "stage1_text.pt")
CASES = {"whole": {}, "replayed": {"micro_batch": 2}, "contrastive": {"micro_batch": 2, "shared_classifier": False}}


def first_batch(fabric: Fabric, folder: Path, **stage2: object) -> dict[str, object]:
    """Return loss and gradients of the batch of all 8 studies; statistics as they are, nothing dropped."""
    recipe = small_recipe(folder, **stage2)
    kept: dict[str, object] = {}

    def one_batch(training, session):
        training.model.eval()
        loss = training.gradients(list(range(8)), training.micro or 8)
        named = [(name.partition("module.model.")[2], value.grad) for name, value in training.model.named_parameters()]
        kept.update(loss=loss, gradients={name: gradient for name, gradient in named if gradient is not None})

    real, align.fit = align.fit, one_batch
    try:
        files = (folder / name for name in STAGE1)
        align.train_alignment(fabric, recipe, small_set(recipe), *files, seed=0, session=Session())
    finally:
        align.fit = real
    return kept


def trained(fabric: Fabric, folder: Path) -> torch.Tensor:
    """Return all weights that two epochs of stage 2 leave, as one row; 9 studies, so that one is left over."""
    recipe = small_recipe(folder, micro_batch=2, batch=4, epochs=2)
    files = (folder / name for name in STAGE1)
    model = align.train_alignment(fabric, recipe, small_set(recipe, 9), *files, seed=0, session=Session())
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def main(folder: Path) -> None:
    fabric = distributed.several("cpu", "32-true")
    assert fabric is not None, "torchrun started no second process"
    results: dict[str, object] = {name: first_batch(fabric, folder, **stage2) for name, stage2 in CASES.items()}
    losses = torch.stack([results[name]["loss"] for name in CASES])  # type: ignore[index]
    results["losses"] = fabric.all_gather(losses)
    results["weights"] = fabric.all_gather(trained(fabric, folder))
    written = folder / "written.txt"

    def write() -> bool:
        first = not written.exists()
        written.touch()
        return first

    results["first"] = fabric.all_gather(torch.tensor(int(distributed.first_alone(fabric, write)))).tolist()
    if fabric.is_global_zero:
        torch.save(results, folder / "results.pt")
    # A process that ends while gloo's threads still listen to the other one is aborted.
    fabric.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
