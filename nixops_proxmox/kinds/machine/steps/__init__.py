"""One class per step, in life order: identity, hardware, installer, system."""
