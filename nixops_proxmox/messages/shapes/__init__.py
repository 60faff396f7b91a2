"""The JSON that verbs print, as types: mypy compares them with the code that makes the values. `nixops-proxmox schema`
prints them as JSON Schemas, and docs/json.md is made of those."""
