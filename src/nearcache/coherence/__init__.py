"""How processes that share a store hear of each other."""
