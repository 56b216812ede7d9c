"""What makes a machine a node of a cluster, on the wire and on its disk: identity, keys, certificates, heartbeats."""
