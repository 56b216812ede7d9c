"""holdfastd: what every node runs. Composition, coordinator, executor, supervision. Source: DESIGN section 3."""
