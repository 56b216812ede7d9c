"""The cluster database in production: a client for etcd, and the supervisor that runs a member on voter nodes."""
