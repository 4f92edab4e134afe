"""Tests of the robustness run itself: its schedule, its proxy, and what it takes for a violation."""
