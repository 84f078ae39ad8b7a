"""The idea, written once: near, then store, then one load for everybody who waits."""
