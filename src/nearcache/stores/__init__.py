"""Tier 2: what outlives the process and is shared with others."""
