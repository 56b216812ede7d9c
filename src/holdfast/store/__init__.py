"""The cluster database: what the rest of Holdfast may ask of it, and who answers.

``port`` holds the promises, ``etcd`` keeps them in production, ``memory`` keeps them in tests and in the simulator.
"""
