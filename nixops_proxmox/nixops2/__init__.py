"""The door for NixOps 2: a machine backend, more verbs, and a place for NixOps's state that a team can share."""
