"""Who leaves when a budget is full."""
