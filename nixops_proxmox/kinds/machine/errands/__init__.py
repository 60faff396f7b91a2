"""One class for each verb that works beside the table."""
