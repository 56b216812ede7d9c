"""Pure decisions: values in, values out. No clock, no I/O, no logging, no randomness. Source: DESIGN section 10."""
