"""Values as bytes and back: never pickle, never JSON for floats."""
