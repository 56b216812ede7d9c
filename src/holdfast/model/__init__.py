"""Value types that every other package speaks in: pure, standard library only."""
