"""Style of Panel's widgets: readable in both themes, and the same on every page."""

from pathlib import Path

from panel.theme import Native
from panel.theme.base import Inherit
from panel.viewable import Viewable


class Theme(Native):
    modifiers = {Viewable: {"stylesheets": [Inherit, Path(__file__).with_name("widgets.css").read_text()]}}  # noqa: RUF012
