"""Parsing manifest.json strictly: what is not understood is refused, never guessed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from greenrfm.bundle.fields import Fields
from greenrfm.bundle.limits import (
    MOST_CODES,
    MOST_FILES,
    MOST_FINDINGS,
    MOST_PLANES,
    MOST_SEQUENCES,
    MOST_STRIDE,
    MOST_TOKENS,
    MOST_VOXELS,
    most_bytes,
)
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
from greenrfm.bundle.strict_json import parse_json
from greenrfm.errors import UserError
from greenrfm.findings import Code, Finding, FindingSet
from greenrfm.findings.sets import KEY
from greenrfm.volumes import Preprocessing

_WORD = re.compile(r"[a-z0-9]+")
_HEX = re.compile(r"[0-9a-f]{64}")


def parse_manifest(text: str, source: str) -> Manifest:
    """Return the manifest in `text`; `source` names the file in errors.

    Raises UserError if the text is no manifest, is of another format version, has an unknown or
    missing key, a value of the wrong kind, length or size, or a file name that could leave the folder.
    """
    try:
        content = parse_json(text)
    except ValueError as error:
        raise UserError(f"{source} is not valid JSON; copy or export the bundle again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{source} is not the manifest of a GreenRFM bundle; give the folder of a bundle")
    version = content.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        newer = type(version) is int and version > FORMAT_VERSION
        advice = "update greenrfm" if newer else "export the bundle again"
        shown = version if type(version) is int and abs(version) < 10**6 else "that is unknown"
        raise UserError(f"{source} has format version {shown}, this greenrfm reads {FORMAT_VERSION}; {advice}")
    return _Parser(source).manifest(content)


class _Parser(Fields):
    """Turns JSON values into the classes of the manifest."""

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
                self.three(features["stride"], "features.stride", 1.0, MOST_STRIDE),
                self.three(features["offset"], "features.offset", 0.0, MOST_STRIDE),
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
            if not (self.file_name(name) and name.endswith(".onnx")):
                raise self.error("vision", f"names {name[:80]!r}, it must name .onnx files of the bundle's own folder")
        sequences = tuple(self.items(fields, "sequences"))
        words = (self.text(fields, "plane"), *sequences)
        if not all(isinstance(word, str) and _WORD.fullmatch(word or "0") for word in words):
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
        limit = self.numbers([fields["limit"]], "fitness.limit", 1, 0.0)[0]
        quantile = self.numbers([fields["quantile"]], "fitness.quantile", 1, 0.0, 1.0)[0]
        return Fitness(limit, quantile, self.whole(fields, "n", "fitness.n", 1))

    def preprocessing(self, top: dict[str, Any]) -> Preprocessing:
        values = self.mapping(top, "preprocessing")
        try:
            preprocessing = Preprocessing.from_dict(values)
        except UserError as error:
            raise UserError(f"{self.source}: {error}; update greenrfm or export the bundle again") from error
        # The class trusts a recipe's types; a file may hold anything.
        self.keys(values, "preprocessing", " ".join(preprocessing.to_dict()))
        for name in ("size", "crop"):
            where = f"preprocessing.{name}"
            voxels = [self.whole({name: count}, name, where, 1, MOST_VOXELS) for count in values[name]]
            if np.prod(voxels, dtype=float) > MOST_VOXELS:
                raise self.error(where, f"must not have more than {MOST_VOXELS} voxels")
        if preprocessing.spacing is not None:
            self.numbers(values["spacing"], "preprocessing.spacing", 3, 0.01, 100.0)
        for name in ("window", "percentiles"):
            if values[name] is not None:
                self.numbers(values[name], f"preprocessing.{name}", 2, -1e6, 1e6)
        self.numbers([values["shift"]], "preprocessing.shift", 1, -1e6, 1e6)
        self.numbers([values["scale"]], "preprocessing.scale", 1, 1e-6, 1e6)
        return preprocessing

    def finding_set(self, value: Any) -> FindingSet:
        content = self.keys(value, "finding_set", "name title modality body_part findings")
        items = content["findings"]
        if not isinstance(items, list) or not 1 <= len(items) <= MOST_FINDINGS:
            raise self.error("finding_set.findings", f"must be a list of 1 to {MOST_FINDINGS} findings")
        findings = []
        for item in items:
            fields = self.keys(item, "finding_set.findings", "key name codes")
            if not KEY.fullmatch(self.text(fields, "key")):
                raise self.error("finding_set.findings", "must have keys of lower-case letters, digits and underscores")
            codes = [self.keys(code, "codes", "scheme value meaning") for code in self.items(fields, "codes")]
            if len(codes) > MOST_CODES:
                raise self.error("codes", f"must be a list of up to {MOST_CODES} codes")
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
        return self.whole(self.keys(text, "text", "max_tokens"), "max_tokens", "text.max_tokens", 3, MOST_TOKENS)

    def files(self, value: Any, networks: tuple[VisionNetwork, ...], with_text: bool) -> dict[str, FileRecord]:
        if not isinstance(value, dict) or len(value) > MOST_FILES:
            raise self.error("files", f"must map up to {MOST_FILES} file names to sha256 and bytes")
        records = {}
        for name, item in value.items():
            if not self.file_name(name):
                raise self.error("files", f"holds {name[:80]!r}, but a bundle may only name files in its own folder")
            fields = self.keys(item, f"files.{name}", "sha256 bytes")
            digest = self.text(fields, "sha256")
            if not _HEX.fullmatch(digest):
                raise self.error(f"files.{name}.sha256", "must be 64 hexadecimal digits in lower case")
            records[name] = FileRecord(digest, self.whole(fields, "bytes", f"files.{name}.bytes", 0, most_bytes(name)))
        for name in (*REQUIRED_FILES, *network_files(networks), *(TEXT_FILES if with_text else ())):
            if name not in records:
                raise self.error("files", f"lacks '{name}'")
        for name in TEXT_FILES:
            if name in records and not with_text:
                raise self.error("files", f"names '{name}', but 'text' is null: a model of images alone")
        return records
