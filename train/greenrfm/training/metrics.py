"""metrics.jsonl: how training went, a line every few steps and every epoch, and the same for TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from greenrfm.files import write_text

Line = dict[str, Any]
NAME = "metrics.jsonl"


class Metrics:
    """Appends lines to `folder`/metrics.jsonl and mirrors their numbers in `folder`/tensorboard.

    A line has "kind" ("step" or "epoch"), "stage", "step" (finished ones), "epoch" (from 1), "time" (seconds
    since 1970) and numbers. Without a folder everything goes nowhere.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / NAME
        self._events: EventsWriter | None = None

    def rewind(self, stage: str, step: int) -> None:
        """Take back what `stage` wrote after `step`: the run goes on from a checkpoint of that step."""
        if self._path is None:
            return
        lines = [line for line in read_metrics(self._path) if line["stage"] != stage or line["step"] <= step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in lines))
        folder = self._path.parent / "tensorboard"
        if self._events is not None:
            self._events.close()
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        folder.mkdir(exist_ok=True)
        # Not SummaryWriter: its thread may keep the last numbers to itself.
        self._events = EventsWriter(str(folder / "events"))
        for line in lines:
            self._mirror(line)
        self._events.flush()

    def write(self, kind: str, stage: str, step: int, epoch: int, numbers: dict[str, float | None]) -> None:
        """Append a line; numbers that are None are left out."""
        if self._path is None:
            return
        given = {name: round(value, 8) for name, value in numbers.items() if value is not None}
        line = {"kind": kind, "stage": stage, "step": step, "epoch": epoch, "time": round(time.time(), 3), **given}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self._mirror(line)
        if kind == "epoch" and self._events is not None:
            self._events.flush()

    def _mirror(self, line: Line) -> None:
        if self._events is not None:
            stage = line["stage"].replace(" ", "_")
            for name in line.keys() - {"kind", "stage", "step", "time"}:
                tag = f"{stage}/{name}" if line["kind"] == "step" else f"{stage}/epoch_{name}"
                if name != "epoch":
                    self._events.write_event(
                        Event(wall_time=line["time"], step=line["step"], summary=scalar(tag, line[name]))
                    )


def read_metrics(path: Path) -> list[Line]:
    """Return the lines of metrics.jsonl; one that a kill cut short is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and {"kind", "stage", "step", "epoch", "time"} <= line.keys():
            lines.append(line)
    return lines


def peak_memory() -> dict[str, float | None]:
    """Return the peaks so far in MB: "rss_mb" of this process (None on Windows), "cuda_mb" of torch on the GPU."""
    cuda = torch.cuda.max_memory_reserved() / 1e6 if torch.cuda.is_available() else None
    return {"rss_mb": _peak_rss_mb(), "cuda_mb": cuda}


def _peak_rss_mb() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
