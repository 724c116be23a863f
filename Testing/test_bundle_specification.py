"""docs/bundle.md is enough: a reader of its own, written from that page with numpy and onnxruntime, says the same."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from greenrfm.bundle import Bundle
from greenrfm.reading import Reader
from greenrfm.volumes import Volume
from make_tiny_bundle import make_tiny_bundle
from some_volumes import rotation


def prepared(array: np.ndarray, affine: np.ndarray, rules: dict[str, Any], size: list[int]) -> tuple[np.ndarray, Any]:
    """Return the field and its affine: steps 1 to 5 of the page, for "canonical" and "window"."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order: list[int] = []
    for world in (1, 0, 2):  # posterior, left, superior
        order.append(max(set(range(3)) - set(order), key=lambda axis: abs(columns[world, axis])))
    values, frame = array.transpose(order).astype(np.float64), affine[:, [*order, 3]]
    for axis, world in enumerate((1, 0, 2)):
        if frame[world, axis] < 0:
            values = np.flip(values, axis)
            frame[:3, 3] += frame[:3, axis] * (values.shape[axis] - 1)
            frame[:3, axis] *= -1
    spacing, counts = np.linalg.norm(frame[:3, :3], axis=0), values.shape
    middle = frame[:3, 3] + frame[:3, :3] @ ((np.array(counts) - 1) / 2)
    values, starts = values.clip(-1024, 3071), []
    for axis, (count, old, new, wanted) in enumerate(zip(counts, spacing, rules["spacing"], size, strict=True)):
        factor = max(1, min(int(new / old + 0.25), count))
        rows = np.moveaxis(values, axis, 0)
        rows = np.concatenate([rows, *[rows[-1:]] * (-count % factor)])
        rows = rows.reshape(-1, factor, *rows.shape[1:]).mean(axis=1)
        step, first = factor * old, ((factor - 1) / 2 - (count - 1) / 2) * old - factor * old
        rows = np.concatenate([rows[:1], rows, rows[-1:]])
        start = -(wanted - 1) / 2 * new
        if abs(step - new) <= 1e-3 * new:
            behind = (start - first) / new
            start += (np.ceil(behind - 0.5 - 1e-9) - behind) * new
        at = start + np.arange(wanted) * new
        place = ((at - first) / step).clip(0, len(rows) - 1.000001)
        low, part = place.astype(int), (place % 1).reshape(-1, 1, 1)
        rows = rows[low] * (1 - part) + rows[low + 1] * part
        rows[np.abs(at) > count * old / 2 + 1e-3 * new] = -1e9
        values = np.moveaxis(rows, 0, axis)
        starts.append(start)
    low, high = rules["window"]
    directions = frame[:3, :3] / spacing
    placed = np.eye(4)
    placed[:3, :3], placed[:3, 3] = directions * rules["spacing"], middle + directions @ starts
    return ((values.clip(low, high) + rules["shift"]) / rules["scale"]).astype(np.float32), placed


def read(folder: Path, volume: Volume) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities, and the heat maps of the padded field with their affine."""
    manifest, heads = json.loads((folder / "manifest.json").read_text()), np.load(folder / "heads.npz")
    network = onnxruntime.InferenceSession(folder / manifest["vision"][0]["file"], providers=["CPUExecutionProvider"])
    rules = manifest["preprocessing"]
    size, crop = rules["size"], rules["crop"]
    field, affine = prepared(volume.array, volume.affine.copy(), rules, size)
    latent, features = network.run(["latent", "features"], {"volume": field[None, None]})
    if manifest["training"].get("field") == "tiles":
        assert all(part < whole for part, whole in zip(crop, size, strict=True))
        assert all(whole <= 2 * part for part, whole in zip(crop, size, strict=True))
        corners = itertools.product((0, 1), repeat=3)
        begins = [[far * (whole - part) for far, whole, part in zip(one, size, crop, strict=True)] for one in corners]
        parts = [field[tuple(slice(at, at + part) for at, part in zip(begin, crop, strict=True))] for begin in begins]
        latent = np.mean([network.run(["latent"], {"volume": part[None, None]})[0] for part in parts], axis=0)
    logits = heads["weight"] @ latent[0] + heads["bias"]
    fitted, grid = manifest["calibration"], manifest["features"]
    probabilities = 1 / (1 + np.exp(-(np.array(fitted["slope"]) * logits + fitted["intercept"])))
    heat = np.tensordot(heads["weight"] @ heads["projection"], features[0], 1) + heads["bias"].reshape(-1, 1, 1, 1)
    cells = np.eye(4)
    cells[:3, :3], cells[:3, 3] = np.diag(grid["stride"]), grid["offset"]
    return probabilities, heat, affine @ cells


@pytest.mark.parametrize("field", ["tiles", "padded"])
@pytest.mark.parametrize("spacing", [(2.0, 2.0, 4.0), (0.7, 0.9, 1.25), (2.1, 1.9, 5.0), (7.0, 3.0, 9.0)])
@pytest.mark.parametrize("tilt", [0.0, 17.0])
def test_a_reader_made_from_the_specification_alone_gives_the_same_scores_and_maps(
    tmp_path: Path, field: str, spacing: tuple[float, float, float], tilt: float
) -> None:
    folder = make_tiny_bundle(tmp_path / "tiny").folder
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["training"]["field"] = field
    (folder / "manifest.json").write_text(json.dumps(manifest))
    random = np.random.default_rng(3)
    affine = np.eye(4)
    affine[:3, :3] = (rotation((tilt, -tilt, tilt)) * spacing)[:, [2, 0, 1]] * (1, -1, 1)
    affine[:3, 3] = random.uniform(-200, 200, 3)
    volume = Volume(random.integers(-1500, 3500, (61, 48, 37)).astype(np.int16), affine, "CT")
    reading = Reader(Bundle.load(folder), 1).read(volume, overrule=True)
    probabilities, heat, placed = read(folder, volume)
    np.testing.assert_allclose([score.probability for score in reading.scores], probabilities, atol=1e-4)
    maps = Reader(Bundle.load(folder), 1).read(volume, heatmaps=True, field="padded").heatmaps
    assert maps is not None
    np.testing.assert_allclose(maps.values, heat, atol=1e-4)
    np.testing.assert_allclose(maps.affine, placed, atol=1e-6)
