"""Resource agents: what brings one kind of resource online and offline, and checks it."""
