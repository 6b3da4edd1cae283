"""Components that are shared by the pages."""
