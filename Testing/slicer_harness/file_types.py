"""`slicer.app.coreIOManager()`: loading and saving through the logics and storage nodes that Slicer's readers call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import slicer

_VOLUMES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".dcm")
_TABLES = (".csv", ".tsv")
_SCENES = (".mrb", ".mrml")


class FileTypes:
    """Reads and writes volumes, segmentations, tables and scenes."""

    def fileType(self, path: str | Path) -> str:
        name = str(path).lower()
        if name.endswith((".seg.nrrd",)):
            return "SegmentationFile"
        if name.endswith(_VOLUMES):
            return "VolumeFile"
        if name.endswith(_TABLES):
            return "TableFile"
        return "SceneFile" if name.endswith(_SCENES) else "NoFile"

    def fileWriterFileType(self, node: Any, preferred: str = "") -> str:
        return {"vtkMRMLTableNode": "TableFile"}.get(node.GetClassName(), "VolumeFile")

    def loadNodes(self, file_type: str, properties: dict, loaded: Any, messages: Any = None) -> bool:
        path = properties["fileName"]
        if not os.path.exists(path):
            return False
        if file_type == "SceneFile":
            return _load_scene(path, bool(properties.get("clear", False)), messages)
        name = properties.get("name") or Path(path).name.split(".")[0]
        node = {"VolumeFile": _load_volume, "SegmentationFile": _load_segmentation, "TableFile": _load_table}[
            file_type
        ](path, name, properties)
        if node is None:
            return False
        loaded.AddItem(node)
        return True

    def saveNodes(self, file_type: str, properties: dict, messages: Any = None, screenshot: Any = None) -> bool:
        path = properties["fileName"]
        if file_type == "SceneFile":
            return _save_scene(path, messages)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(path)
        storage = node.GetStorageNode()
        storage.SetFileName(path)
        return bool(storage.WriteData(node))

    def addDefaultStorageNodes(self) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
            if node.GetSaveWithScene() and node.GetStorageNode() is None:
                node.AddDefaultStorageNode()


def _load_scene(path: str, clear: bool, messages: Any) -> bool:
    scene = slicer.mrmlScene
    if path.lower().endswith(".mrb"):
        return bool(scene.ReadFromMRB(path, clear, messages))
    scene.SetURL(path)
    return bool(scene.Connect(messages) if clear else scene.Import(messages))


def _save_scene(path: str, messages: Any) -> bool:
    scene = slicer.mrmlScene
    if path.lower().endswith(".mrb"):
        return bool(scene.WriteToMRB(path, None, messages))
    scene.SetURL(path)
    return bool(scene.Commit(path, messages))


def _load_volume(path: str, name: str, properties: dict) -> Any:
    is_label_map = 1 if properties.get("labelmap") else 0
    return slicer.modules.volumes.logic().AddArchetypeVolume(path, name, is_label_map)


def _load_segmentation(path: str, name: str, properties: dict) -> Any:
    labels = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, 1)
    if labels is None:
        return None
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    segmentation.CreateDefaultDisplayNodes()
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segmentation)
    slicer.mrmlScene.RemoveNode(labels)
    return segmentation


def _load_table(path: str, name: str, properties: dict) -> Any:
    return slicer.modules.tables.logic().AddTable(path, name)
