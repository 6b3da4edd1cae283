"""The schedule: its plan, and the plan in Dagster."""
