"""Several processes: the loss and gradients of one process that has the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric

from greenrfm.errors import UserError
from greenrfm.training.distributed import check_batch, gathered, own_share, processes, shareable
from small_alignment import small_bert, small_recipe, small_stage1
from two_processes import CASES, first_batch

HERE = Path(__file__).parent


pytestmark = pytest.mark.usefixtures("one_thread")


class TestTwoProcesses:
    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory):
        folder = small_bert(tmp_path_factory.mktemp("two"))
        small_stage1(small_recipe(folder), folder)
        return folder

    @pytest.fixture(scope="class")
    @staticmethod
    def two(folder):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            [*command, str(HERE / "two_processes.py"), str(folder)],
            env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-4000:]
        return torch.load(folder / "results.pt", weights_only=True)

    @pytest.mark.parametrize("case", CASES)
    def test_have_the_loss_and_gradients_of_one(self, folder, two, case):
        one = first_batch(Fabric(accelerator="cpu", devices=1, precision="32-true"), folder, **CASES[case])
        torch.testing.assert_close(two[case]["loss"], one["loss"], rtol=0, atol=1e-5)
        # Frozen in several processes, without gradient in one: the pooler, which nothing asks.
        assert two[case]["gradients"].keys() == one["gradients"].keys()
        assert len(one["gradients"]) > 40
        for name, value in one["gradients"].items():
            bound = 1e-5 * max(1.0, float(value.abs().max()))
            torch.testing.assert_close(two[case]["gradients"][name], value, rtol=0, atol=bound, msg=name)

    def test_agree_on_every_loss(self, two):
        assert torch.equal(two["losses"][0], two["losses"][1])

    def test_end_with_the_same_weights(self, two):
        assert torch.equal(two["weights"][0], two["weights"][1])
        assert torch.isfinite(two["weights"]).all()

    def test_let_the_first_write_alone(self, two):
        assert two["first"] == [1, 0]


def ranked(world_size, global_rank=0):
    return SimpleNamespace(world_size=world_size, global_rank=global_rank, device=torch.device("cpu"))


def test_shares_are_disjoint_and_in_the_order_in_which_rows_are_gathered():
    batch = [5, 2, 9, 1, 7, 3]
    assert [index for rank in range(3) for index in own_share(batch, ranked(3, rank))] == batch


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_loaded():
    with pytest.raises(UserError, match="a batch of 10 does not divide over 4 processes; set batch: 8"):
        check_batch(10, ranked(4), "stage 2 align")
    check_batch(10, ranked(1), "stage 2 align")


def test_torchrun_states_processes_and_nodes():
    started = {"TORCHELASTIC_RUN_ID": "7", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}
    assert processes(started) == (8, 2)
    assert processes({}) == (1, 1)
    # Some clusters set it for everything they start.
    assert processes({"WORLD_SIZE": "16"}) == (1, 1)


def test_one_process_gathers_nothing_and_changes_no_model():
    rows, model = torch.randn(3, 2), torch.nn.BatchNorm3d(2)
    assert gathered(rows, ranked(1)) is rows
    assert shareable(model, ranked(1)) is model
