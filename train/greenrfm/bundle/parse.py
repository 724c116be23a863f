"""Parsing manifest.json strictly: what is not understood is refused, never guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from greenrfm.bundle.manifest import (
    FORMAT,
    FORMAT_VERSION,
    OPSETS,
    REQUIRED_FILES,
    SIMILARITIES,
    TEXT_FILES,
    Calibration,
    FeatureGrid,
    FileRecord,
    Fitness,
    Manifest,
    Thresholds,
    VisionNetwork,
    network_files,
)
from greenrfm.errors import UserError
from greenrfm.findings import Code, Finding, FindingSet
from greenrfm.findings.sets import nearest
from greenrfm.volumes import Preprocessing

# Plain names only: no folder, drive or parent can be spelled with these characters.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_WORD = re.compile(r"[a-z0-9]+")
MOST_PLANES, MOST_SEQUENCES = 8, 16
_HEX = re.compile(r"[0-9a-f]{64}")


def parse_manifest(text: str, source: str) -> Manifest:
    """Return the manifest in `text`; `source` names the file in errors.

    Raises UserError if the text is no manifest, is of another format version, has an unknown or
    missing key, a value of the wrong kind or length, or a file name that could leave the folder.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not valid JSON; copy or export the bundle again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{source} is not the manifest of a GreenRFM bundle; give the folder of a bundle")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        advice = "update greenrfm" if newer else "export the bundle again"
        raise UserError(f"{source} has format version {version}, this greenrfm reads {FORMAT_VERSION}; {advice}")
    return _Parser(source).manifest(content)


class _Parser:
    """Turns JSON values into the classes above; every complaint names the file and the key."""

    def __init__(self, source: str) -> None:
        self.source = source

    def manifest(self, content: Any) -> Manifest:
        top = self.keys(
            content,
            "",
            "format format_version name created intended_use licence finding_set preprocessing vision features text "
            "similarity calibration thresholds fitness metrics training opset files",
        )
        findings = self.finding_set(top["finding_set"])
        count = len(findings.findings)
        features = self.keys(top["features"], "features", "stride offset pooled")
        calibration = self.keys(top["calibration"], "calibration", "method slope intercept")
        thresholds = self.keys(top["thresholds"], "thresholds", "rule present absent")
        networks = self.networks(top["vision"])
        if calibration["method"] != "platt":
            raise self.error("calibration.method", "must be 'platt'")
        if top["similarity"] not in SIMILARITIES:
            raise self.error("similarity", f"must be one of {', '.join(SIMILARITIES)}")
        if type(top["opset"]) is not int or top["opset"] not in OPSETS:
            raise self.error(
                "opset", f"must be {OPSETS[0]} to {OPSETS[-1]}; export with one of these or update greenrfm"
            )
        return Manifest(
            name=self.text(top, "name"),
            created=self.text(top, "created"),
            intended_use=self.text(top, "intended_use"),
            licence=self.text(top, "licence"),
            finding_set=findings,
            preprocessing=self.preprocessing(top),
            features=FeatureGrid(
                self.three(features["stride"], "features.stride", above=0.0),
                self.three(features["offset"], "features.offset", above=-1.0),
                self.whole(features, "pooled", "features.pooled", 1),
            ),
            max_tokens=self.max_tokens(top["text"]),
            calibration=Calibration(
                self.numbers(calibration["slope"], "calibration.slope", count, 0.0),
                self.numbers(calibration["intercept"], "calibration.intercept", count),
            ),
            thresholds=self.thresholds(thresholds, count),
            metrics=self.mapping(top, "metrics"),
            training=self.mapping(top, "training"),
            opset=top["opset"],
            files=self.files(top["files"], networks, with_text=top["text"] is not None),
            similarity=top["similarity"],
            networks=networks,
            fitness=self.fitness(top["fitness"]),
        )

    def thresholds(self, fields: dict[str, Any], count: int) -> Thresholds:
        present, absent = (
            self.numbers(fields[name], f"thresholds.{name}", count, 0.0, 1.0) for name in ("present", "absent")
        )
        if any(low > high for low, high in zip(absent, present, strict=True)):
            raise self.error("thresholds.absent", "must nowhere be above thresholds.present")
        return Thresholds(self.text(fields, "rule"), present, absent)

    def networks(self, value: Any) -> tuple[VisionNetwork, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= MOST_PLANES:
            raise self.error("vision", f"must be a list of 1 to {MOST_PLANES} networks")
        networks = tuple(self.network(item) for item in value)
        names = [name for network in networks for name in (network.file, network.half) if name]
        if len(set(names)) < len(names):
            raise self.error("vision", "names a file twice")
        planes = [network.plane for network in networks]
        if len(set(planes)) < len(planes) or (len(planes) > 1 and not all(planes)):
            raise self.error("vision", "must name a plane of its own for each of several networks")
        if len({network.sequences for network in networks}) > 1:
            raise self.error("vision", "must give all networks the same sequences")
        return networks

    def network(self, value: Any) -> VisionNetwork:
        fields = self.keys(value, "vision", "file half plane sequences")
        half = fields["half"]
        names = [self.text(fields, "file"), *([] if half is None else [self.text(fields, "half")])]
        for name in names:
            if not (_FILE_NAME.fullmatch(name) and name.endswith(".onnx")):
                raise self.error("vision", f"names {name!r}, it must name .onnx files of the bundle's own folder")
        sequences = tuple(self.items(fields, "sequences"))
        words = (self.text(fields, "plane"), *sequences)
        if not all(isinstance(word, str) and (_WORD.fullmatch(word) or word == "") for word in words):
            raise self.error("vision", "must name planes and sequences with lower-case letters and digits")
        if len(set(sequences)) < len(sequences) or "" in sequences or len(sequences) > MOST_SEQUENCES:
            raise self.error("vision", f"must name up to {MOST_SEQUENCES} sequences, each once")
        return VisionNetwork(names[0], half, str(words[0]), sequences)

    def fitness(self, value: Any) -> Fitness | None:
        if value is None:
            return None
        fields = self.keys(value, "fitness", "method limit quantile n")
        if fields["method"] != "mahalanobis":
            raise self.error("fitness.method", "must be 'mahalanobis'")
        limit, quantile = (self.numbers([fields[name]], f"fitness.{name}", 1, 0.0)[0] for name in ("limit", "quantile"))
        return Fitness(limit, quantile, self.whole(fields, "n", "fitness.n", 1))

    def preprocessing(self, top: dict[str, Any]) -> Preprocessing:
        try:
            return Preprocessing.from_dict(self.mapping(top, "preprocessing"))
        except UserError as error:
            raise UserError(f"{self.source}: {error}; update greenrfm or export the bundle again") from error

    def finding_set(self, value: Any) -> FindingSet:
        content = self.keys(value, "finding_set", "name title modality body_part findings")
        items = content["findings"]
        if not isinstance(items, list) or not items:
            raise self.error("finding_set.findings", "must be a list with at least one finding")
        findings = []
        for item in items:
            fields = self.keys(item, "finding_set.findings", "key name codes")
            codes = [self.keys(code, "codes", "scheme value meaning") for code in self.items(fields, "codes")]
            coded = tuple(Code(*(self.text(code, name) for name in ("scheme", "value", "meaning"))) for code in codes)
            findings.append(Finding(self.text(fields, "key"), self.text(fields, "name"), codes=coded))
        if len({finding.key for finding in findings}) < len(findings):
            raise self.error("finding_set.findings", "names a key twice")
        name, title, modality, body_part = (
            self.text(content, key) for key in ("name", "title", "modality", "body_part")
        )
        return FindingSet(name, title, modality, body_part, tuple(findings), prompts=())

    def max_tokens(self, text: Any) -> int | None:
        if text is None:
            return None
        return self.whole(self.keys(text, "text", "max_tokens"), "max_tokens", "text.max_tokens", 3)

    def files(self, value: Any, networks: tuple[VisionNetwork, ...], with_text: bool) -> dict[str, FileRecord]:
        if not isinstance(value, dict):
            raise self.error("files", "must map file names to sha256 and bytes")
        records = {}
        for name, item in value.items():
            if not _FILE_NAME.fullmatch(name):
                raise self.error("files", f"holds {name!r}, but a bundle may only name files in its own folder")
            fields = self.keys(item, f"files.{name}", "sha256 bytes")
            digest = self.text(fields, "sha256")
            if not _HEX.fullmatch(digest):
                raise self.error(f"files.{name}.sha256", "must be 64 hexadecimal digits in lower case")
            records[name] = FileRecord(digest, self.whole(fields, "bytes", f"files.{name}.bytes", 0))
        for name in (*REQUIRED_FILES, *network_files(networks), *(TEXT_FILES if with_text else ())):
            if name not in records:
                raise self.error("files", f"lacks '{name}'")
        for name in TEXT_FILES:
            if name in records and not with_text:
                raise self.error("files", f"names '{name}', but 'text' is null: a model of images alone")
        return records

    def error(self, key: str, problem: str) -> UserError:
        advice = "" if ";" in problem else "; export the bundle again"
        return UserError(f"{self.source}: '{key}' {problem}{advice}")

    def keys(self, value: Any, where: str, names: str) -> dict[str, Any]:
        known = tuple(names.split())
        if not isinstance(value, dict):
            raise self.error(where, f"must be an object with {', '.join(known)}")
        for key in value:
            if key not in known:
                raise self.error(where or "manifest", f"has an unknown key '{key}'{nearest(key, known)}")
        for key in known:
            if key not in value:
                raise self.error(where or "manifest", f"lacks '{key}'")
        return value

    def text(self, mapping: dict[str, Any], key: str) -> str:
        if not isinstance(mapping[key], str):
            raise self.error(key, "must be a text")
        return str(mapping[key])

    def mapping(self, mapping: dict[str, Any], key: str) -> dict[str, Any]:
        if not isinstance(mapping[key], dict):
            raise self.error(key, "must be an object")
        return dict(mapping[key])

    def items(self, mapping: dict[str, Any], key: str) -> Iterable[Any]:
        if not isinstance(mapping[key], list):
            raise self.error(key, "must be a list")
        return tuple(mapping[key])

    def whole(self, mapping: dict[str, Any], key: str, where: str, least: int) -> int:
        value = mapping[key]
        if type(value) is not int or value < least:
            raise self.error(where, f"must be a whole number from {least} up")
        return value

    def numbers(
        self, value: Any, where: str, count: int, low: float = -np.inf, high: float = np.inf
    ) -> tuple[float, ...]:
        if not isinstance(value, list) or len(value) != count:
            raise self.error(where, f"must be a list of {count} numbers")
        try:
            numbers = tuple(float(item) for item in value if type(item) in (int, float))
        except OverflowError:
            numbers = ()
        if len(numbers) < count or not all(low <= number <= high and abs(number) < np.inf for number in numbers):
            bounds = f" from {low:g} to {high:g}" if np.isfinite(low) else ""
            raise self.error(where, f"must hold finite numbers{bounds}")
        return numbers

    def three(self, value: Any, where: str, above: float) -> tuple[float, float, float]:
        height, width, depth = self.numbers(value, where, 3)
        if min(height, width, depth) <= above:
            raise self.error(where, f"must be above {above:g}")
        return height, width, depth
