"""Losses: label policies, rare findings, soft contrastive targets, the L2 ablation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from greenrfm.training.losses import contrastive, latent_norm, masked_bce, positive_weights, soft_targets
from greenrfm.training.recipe import Labels
from greenrfm.training.supervision import Supervision

PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED = 1, 0, -1, -2


def bce_of(policies, states, logit=0.7):
    labels = Labels.model_validate({"not_mentioned": "mask", **policies})
    states = np.array([states], np.int8)
    return Supervision(states, labels, torch.device("cpu")).bce(torch.full(states.shape, logit), [0])


def one(target, logit=0.7):
    return functional.binary_cross_entropy_with_logits(torch.tensor(logit), torch.tensor(target))


@pytest.mark.parametrize("key", ["uncertain", "not_mentioned"])
def test_each_policy_is_its_formula(key):
    asked = {"uncertain": UNCERTAIN, "not_mentioned": NOT_MENTIONED}[key]
    torch.testing.assert_close(bce_of({key: "mask"}, [PRESENT, asked]), one(1.0))
    torch.testing.assert_close(bce_of({key: {"soft": 0.3}}, [PRESENT, asked]), (one(1.0) + one(0.3)) / 2)
    negative = (one(1.0) + 0.25 * one(0.0)) / 1.25
    torch.testing.assert_close(bce_of({key: {"negative": 0.25}}, [PRESENT, asked]), negative)


def test_no_policy_unbounds_the_loss():
    for policy in ("mask", {"soft": 0.5}, {"negative": 1.0}):
        for logit in (-1e4, 1e4):
            assert float(bce_of({"uncertain": policy}, [UNCERTAIN, NOT_MENTIONED], logit)) >= 0


def test_a_rare_finding_weighs_as_much_as_its_absence():
    targets = torch.tensor([[1.0, 1.0]] + [[0.0, 1.0]] * 3 + [[0.0, 0.0]] * 4)
    weights = torch.ones_like(targets)
    positive = positive_weights(targets, weights, most=100.0)
    assert positive.tolist() == [7, 1]
    logits = torch.zeros_like(targets, requires_grad=True)
    masked_bce(logits, targets, weights, positive).backward()
    torch.testing.assert_close(logits.grad.sum(dim=0), torch.zeros(2))  # as much up as down


def test_weights_of_rare_findings_are_capped_and_masked_entries_do_not_count():
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    weights = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert positive_weights(targets, weights, most=5.0).tolist() == [1, 5]


def test_normal_reports_share_their_target_and_rows_sum_to_one():
    targets = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    shares = soft_targets(targets, torch.ones_like(targets), 0.4)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(shares[0], torch.tensor([0.8, 0.2, 0.0, 0.0]))
    torch.testing.assert_close(shares[2], torch.tensor([0.0, 0.0, 0.6 + 0.4 / 1.5, 0.2 / 1.5]))  # Jaccard 1/2


def test_studies_that_state_nothing_in_common_are_not_alike():
    shares = soft_targets(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 0.5)
    torch.testing.assert_close(shares, torch.eye(2))


def test_soft_targets_of_no_share_are_the_hard_ones():
    vision, text, targets = torch.randn(5, 8), torch.randn(5, 8), (torch.rand(5, 3) < 0.5).float()
    shares = soft_targets(targets, torch.ones(5, 3), 0.0)
    torch.testing.assert_close(contrastive(vision, text, shares), contrastive(vision, text))


def test_the_l2_ablation_does_not_see_norms():
    vision, text = torch.randn(5, 8), torch.randn(5, 8)
    torch.testing.assert_close(contrastive(3 * vision, text, l2_norm=True), contrastive(vision, text, l2_norm=True))
    cosines = functional.cosine_similarity(vision[:, None], text[None], dim=2) / 0.07
    own = torch.arange(5)
    expected = (functional.cross_entropy(cosines, own) + functional.cross_entropy(cosines.T, own)) / 2
    torch.testing.assert_close(contrastive(vision, text, l2_norm=True), expected)


def test_latent_norm_is_a_mean_length():
    assert latent_norm(torch.tensor([[3.0, 4.0], [0.0, 1.0]])) == 3.0
