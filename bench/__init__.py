"""Figures, measured as ratios in one run: ``uv run python -m bench``."""
