"""Application of `panel serve dashboard/app.py`, which runs it for each visitor."""

from dashboard.server import under_panel_serve

under_panel_serve().servable()
