"""What the panel remembers in the scene."""

from __future__ import annotations

from typing import Any

_VOLUME = "InputVolume"


class Parameters:
    """A typed view of the module's vtkMRMLScriptedModuleNode.

    It is saved with the scene, so it holds nothing about the patient and no path.
    """

    def __init__(self, node: Any) -> None:
        """Wrap `node`, a vtkMRMLScriptedModuleNode."""
        self.node = node

    @property
    def volume(self) -> Any:
        """The volume node chosen for the analysis, or None."""
        return self.node.GetNodeReference(_VOLUME)

    @volume.setter
    def volume(self, node: Any) -> None:
        self.node.SetNodeReferenceID(_VOLUME, node.GetID() if node else None)

    @property
    def finding(self) -> str:
        """The key of the finding selected in the table, or ""."""
        return str(self.node.GetParameter("Finding") or "")

    @finding.setter
    def finding(self, key: str) -> None:
        self.node.SetParameter("Finding", key)

    @property
    def plane(self) -> str:
        """The plane of which heat maps are shown, or ""."""
        return str(self.node.GetParameter("Plane") or "")

    @plane.setter
    def plane(self, plane: str) -> None:
        self.node.SetParameter("Plane", plane)

    @property
    def heat_map(self) -> bool:
        """Whether the heat map of the selected finding lies over the slice views."""
        return bool(self.node.GetParameter("HeatMap") == "1")

    @heat_map.setter
    def heat_map(self, shown: bool) -> None:
        self.node.SetParameter("HeatMap", "1" if shown else "0")

    @property
    def opacity(self) -> float:
        """The opacity of the heat map, 0 to 1."""
        try:
            return min(1.0, max(0.0, float(self.node.GetParameter("Opacity"))))
        except ValueError:  # a new scene, or one that somebody edited
            return 0.5

    @opacity.setter
    def opacity(self, value: float) -> None:
        self.node.SetParameter("Opacity", f"{value:.3f}")
