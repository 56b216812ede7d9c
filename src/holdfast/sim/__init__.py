"""The simulator: a whole cluster in one process on virtual time. The deciding code is real, its ports are simulated."""
