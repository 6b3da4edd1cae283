"""What `panel serve dashboard/app.py` runs for each visitor."""

from dashboard.server import under_panel_serve

under_panel_serve().servable()
