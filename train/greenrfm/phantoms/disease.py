"""Which findings occur together: a few hidden conditions raise groups of findings, as in real cohorts."""

from __future__ import annotations

import numpy as np

from greenrfm.phantoms.anatomy import Patient

# Log-odds without any condition, then the gain by condition. The conditions are standard normal; age
# is in units of 16 years around 58. Chosen so that prevalences lie between about 12 and 40 percent.
CONDITIONS = ("age", "heart failure", "atherosclerosis", "smoking", "infection", "malignancy")
GAINS: dict[str, tuple[float, tuple[float, ...]]] = {
    "cardiomegaly": (-1.6, (0.3, 1.5, 0.4, 0.0, 0.0, 0.0)),
    "pericardial_effusion": (-1.7, (0.0, 0.9, 0.0, 0.0, 0.2, 0.7)),
    "pleural_effusion": (-1.5, (0.2, 1.1, 0.0, 0.0, 0.5, 0.6)),
    "hiatal_hernia": (-1.3, (0.6, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "lymphadenopathy": (-1.4, (0.0, 0.2, 0.0, 0.2, 0.3, 1.2)),
    "lung_opacity": (-1.1, (0.0, 0.3, 0.0, 0.1, 1.3, 0.0)),
    "atelectasis": (-1.2, (0.2, 0.4, 0.0, 0.1, 0.3, 0.3)),
    "consolidation": (-1.5, (0.0, 0.0, 0.0, 0.0, 1.4, 0.2)),
    "emphysema": (-1.6, (0.4, 0.0, 0.2, 1.5, 0.0, 0.0)),
    "lung_nodule": (-0.7, (0.1, 0.0, 0.0, 0.5, 0.0, 1.0)),
    "arterial_wall_calcification": (-1.1, (1.0, 0.0, 1.3, 0.3, 0.0, 0.0)),
    "coronary_artery_wall_calcification": (-1.3, (0.9, 0.2, 1.3, 0.2, 0.0, 0.0)),
    "medical_material": (-1.3, (0.3, 0.6, 0.4, 0.0, 0.1, 0.3)),
}


def draw_conditions(patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """Return the patient's hidden conditions, one per name in `CONDITIONS`."""
    return np.array([(patient.age - 58) / 16, *rng.standard_normal(len(CONDITIONS) - 1)])


def draw_findings(conditions: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Return the present findings with their severity: 0 is barely visible, 1 marked; many are subtle."""
    present = {}
    for finding, (offset, gains) in GAINS.items():
        if rng.random() < 1 / (1 + np.exp(-(offset + float(np.dot(gains, conditions))))):
            present[finding] = float(rng.beta(1.8, 1.3))
    return present
