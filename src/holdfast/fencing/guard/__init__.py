"""The guard: a tiny process, standard library only, that kills guests when this node may no longer own them."""
