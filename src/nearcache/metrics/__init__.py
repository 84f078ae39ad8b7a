"""Statistics to look at: of this process, and of all that share a store."""
