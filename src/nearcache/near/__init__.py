"""Tier 1: copies in this process."""
