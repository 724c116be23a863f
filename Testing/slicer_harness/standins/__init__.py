"""Stand-ins for the ctk and qMRML widgets: real widgets that expose what the real class exposes, and no more."""

from __future__ import annotations

from ..pythonqt.standin import StandIn
from . import ctk_buttons, ctk_inputs, qmrml_selector, qmrml_widgets
from .declare import STANDINS

__all__ = ["STANDINS", "StandIn", "ctk_buttons", "ctk_inputs", "qmrml_selector", "qmrml_widgets"]
