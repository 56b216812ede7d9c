"""Fencing: make sure that a node can do no harm, and say so only when it is proven."""
