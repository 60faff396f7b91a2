# Completion for fish, which reads this file when it is first needed. The program knows its own words.
nixops-proxmox completion fish | source
