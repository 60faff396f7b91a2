"""Pure: one VM's configuration, how it differs from the description, and the calls that change it."""
