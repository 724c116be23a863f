"""Off-screen pictures of Slicer's slice and 3D views, as RGB arrays that a test can ask about a place in the patient.

A slice picture is what Slicer's own slice logic reslices and blends: it needs no OpenGL. The 3D view goes through
Slicer's displayable managers and needs OpenGL without a display (EGL); `opengl_missing` says whether it is there.
Every picture is uint8 (height, width, 3) with row 0 at the top, as on the screen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

# vtkRenderWindow asks for the X server otherwise; read when the first window is made.
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLVolumeRenderingDisplayableManager",
)
# Where the camera stands, and what is up in its picture, in RAS.
FROM = {"anterior": ((0, 1, 0), (0, 0, 1)), "right": ((1, 0, 0), (0, 0, 1)), "superior": ((0, 0, 1), (0, 1, 0))}


@cache
def opengl_missing() -> str:
    """Return why no 3D picture can be drawn here, or "". Asked in a child process, because a missing driver aborts."""
    code = (
        "import vtkmodules.vtkRenderingOpenGL2\n"
        "from vtkmodules.vtkRenderingCore import vtkRenderWindow\n"
        "window = vtkRenderWindow()\n"
        "window.SetOffScreenRendering(1)\n"
        "window.Render()\n"
        "raise SystemExit(not window.SupportsOpenGL())"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    return "" if child.returncode == 0 else "no OpenGL without a display here (EGL): 3D pictures cannot be drawn"


class SliceView:
    """A slice view without a window, with slice node, composite node and slice logic of its own in the scene.

    Parameters
    ----------
    name
        Layout name: "Red", "Green", "Yellow", …; an existing slice node of that name is used.
    orientation
        "Axial", "Coronal" or "Sagittal", in the radiologist's convention: the patient's right is on the left.
    size
        Width and height of the picture in pixels.
    """

    def __init__(self, name: str, orientation: str, size: tuple[int, int] = (256, 256)) -> None:
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self.logic.ResizeSliceNode(*size)
        self.size = size

    @property
    def composite(self) -> Any:
        """Return the vtkMRMLSliceCompositeNode: what this view shows, and how strongly the foreground."""
        return self.logic.GetSliceCompositeNode()

    def show(self, background: Any, foreground: Any = None, opacity: float = 0.5) -> None:
        """Show two volume nodes on top of each other and fit the view to the background."""
        self.composite.SetBackgroundVolumeID(background.GetID())
        self.composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
        self.composite.SetForegroundOpacity(opacity)
        self.fit()

    def fit(self) -> None:
        """Fit the view to its background volume, as when a volume is loaded."""
        self.logic.FitSliceToBackground()

    def zoom(self, factor: float) -> None:
        """Show a field of view smaller by `factor`, around the same centre."""
        width, height, depth = self.node.GetFieldOfView()
        self.node.SetFieldOfView(width / factor, height / factor, depth)

    def picture(self) -> NDArray[np.uint8]:
        """Return the picture that the slice logic blends from its layers."""
        self.logic.UpdatePipeline()
        connection = self.logic.GetImageDataConnection()
        if connection is None:
            return np.zeros((self.size[1], self.size[0], 3), np.uint8)
        connection.GetProducer().Update()
        return _rgb(connection.GetProducer().GetOutputDataObject(connection.GetIndex()))

    def pixel(self, ras: Sequence[float]) -> tuple[int, int]:
        """Return (row, column) of the pixel onto which a point in RAS mm falls, seen along the slice's normal."""
        column, up, _ = (self._ras_to_xy() @ [*ras, 1.0])[:3]
        return self.size[1] - 1 - round(float(up)), round(float(column))

    def ras(self, row: float, column: float) -> NDArray[np.float64]:
        """Return the point in RAS mm that the middle of a pixel shows."""
        return np.asarray((np.linalg.inv(self._ras_to_xy()) @ [column, self.size[1] - 1 - row, 0.0, 1.0])[:3])

    def distance(self, ras: Sequence[float]) -> float:
        """Return the distance in mm of a point from the plane that is shown."""
        to_ras = slicer.util.arrayFromVTKMatrix(self.node.GetSliceToRAS())
        return float(abs((np.asarray(ras) - to_ras[:3, 3]) @ to_ras[:3, 2]))

    def close(self) -> None:
        """Take the view out of the application logic and the scene."""
        slicer.app.applicationLogic().GetSliceLogics().RemoveItem(self.logic)
        for node in (self.composite, self.node):
            if node is not None and slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        self.logic.SetMRMLScene(None)

    def _ras_to_xy(self) -> NDArray[np.float64]:
        return np.linalg.inv(slicer.util.arrayFromVTKMatrix(self.node.GetXYToRAS()))


class ThreeDView:
    """A 3D view without a window: the scene through Slicer's displayable managers. Needs OpenGL (`opengl_missing`)."""

    def __init__(self, name: str = "1", size: tuple[int, int] = (512, 512)) -> None:
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetSize(*size)
        self.renderer = vtk.vtkRenderer()
        self.window.AddRenderer(self.renderer)
        # Displayable managers of 3D views listen to the interactor.
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        self._interactor.Initialize()
        application = slicer.app.applicationLogic()
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(application)
        application.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node = self.logic.AddViewNode(name)
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application)
        for manager in THREE_D_MANAGERS:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._managers = slicer.vtkMRMLDisplayableManagerGroup()
        self._managers.Initialize(factory, self.renderer)
        self._managers.SetMRMLDisplayableNode(self.node)

    def show_slice(self, view: SliceView) -> None:
        """Show a slice view's picture at its place in space, as the eye of its bar in Slicer does."""
        # The plane's texture is made by the slice logic; asking for the model makes it build both.
        view.logic.GetSliceModelNode()
        view.node.SetSliceVisible(True)

    def render_volume(self, volume: Any, opacity: Callable[[Any], None], colour: Callable[[Any], None]) -> Any:
        """Show a volume node by volume rendering; return its display node.

        `opacity` fills a vtkPiecewiseFunction and `colour` a vtkColorTransferFunction over the volume's values.
        """
        logic = slicer.modules.volumerendering.logic()
        display = logic.CreateVolumeRenderingDisplayNode("vtkMRMLCPURayCastVolumeRenderingDisplayNode")
        slicer.mrmlScene.AddNode(display)
        display.UnRegister(logic)
        volume.AddAndObserveDisplayNodeID(display.GetID())
        logic.UpdateDisplayNodeFromVolumeNode(display, volume)
        properties = display.GetVolumePropertyNode().GetVolumeProperty()
        for function, fill in ((properties.GetScalarOpacity(), opacity), (properties.GetRGBTransferFunction(), colour)):
            function.RemoveAllPoints()
            fill(function)
        display.SetVisibility(True)
        return display

    def look(self, from_side: str, azimuth: float = 0.0, elevation: float = 0.0, zoom: float = 1.0) -> None:
        """Look at everything shown from "anterior", "right" or "superior", turned by degrees around the patient."""
        direction, up = FROM[from_side]
        self.renderer.ResetCamera()
        camera = self.renderer.GetActiveCamera()
        centre = np.array(camera.GetFocalPoint())
        camera.SetPosition(*(centre + np.array(direction) * camera.GetDistance()))
        camera.SetViewUp(*up)
        camera.Azimuth(azimuth)
        camera.Elevation(elevation)
        self.renderer.ResetCamera()
        camera.Dolly(zoom)
        self.renderer.ResetCameraClippingRange()

    def picture(self) -> NDArray[np.uint8]:
        """Return what the view shows."""
        self.window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        return _rgb(grabber.GetOutput())

    def pixel(self, ras: Sequence[float]) -> tuple[int, int]:
        """Return (row, column) of the pixel onto which a point in RAS mm is projected."""
        self.renderer.SetWorldPoint(*ras, 1.0)
        self.renderer.WorldToDisplay()
        column, up, _ = self.renderer.GetDisplayPoint()
        return self.window.GetSize()[1] - 1 - round(up), round(column)

    def close(self) -> None:
        """Free the window and take the view out of the application logic and the scene."""
        slicer.app.applicationLogic().GetViewLogics().RemoveItem(self.logic)
        self._managers.SetMRMLDisplayableNode(None)
        self.logic.SetMRMLScene(None)
        if slicer.mrmlScene.IsNodePresent(self.node):
            slicer.mrmlScene.RemoveNode(self.node)
        self.window.Finalize()


def _rgb(image: Any) -> NDArray[np.uint8]:
    """Return a VTK image as (height, width, 3) over black; VTK counts rows from the bottom."""
    width, height, _ = image.GetDimensions()
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1]
    if values.shape[2] == 4:  # where no volume lies, the slice logic leaves a transparent pixel of any colour
        return (values[..., :3] * (values[..., 3:] / 255.0)).round().astype(np.uint8)
    return np.ascontiguousarray(values).astype(np.uint8)
