"""Stand-ins for routers that cannot run here: their APIs, with the habits that bite."""
