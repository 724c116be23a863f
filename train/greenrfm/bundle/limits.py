"""How large anything in a bundle may be: what is larger is refused before it is read."""

from __future__ import annotations

MOST_MANIFEST_BYTES = 8 << 20
MOST_JSON_DEPTH = 32
MOST_FINDINGS = 1000
MOST_CODES = 16
MOST_PLANES, MOST_SEQUENCES = 8, 16
MOST_FILES = 64
MOST_TOKENS = 8192
# Voxels from one cell of the feature map to the next.
MOST_STRIDE = 1024
# Of the prepared field; the largest preset has 11 million.
MOST_VOXELS = 1 << 28
# A file of a protocol buffer ends at 2 GiB.
_MOST_BYTES = {".onnx": 2 << 30, ".npz": 1 << 30, ".json": 64 << 20}
_MOST_BYTES_OF_OTHERS = 1 << 20


def most_bytes(name: str) -> int:
    """Return how many bytes a bundle's file called `name` may have."""
    return next((most for end, most in _MOST_BYTES.items() if name.endswith(end)), _MOST_BYTES_OF_OTHERS)
