"""PVE's API by subject: what is asked and what is answered, as types; and its tasks."""
