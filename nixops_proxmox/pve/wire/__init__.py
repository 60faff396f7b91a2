"""How an exchange with PVE goes: calls as data, trust, credentials, retries, refusals. Knows no VM."""
