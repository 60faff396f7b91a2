"""PVE's firewall: of machines, and the security groups, IP sets and aliases of a cluster."""
