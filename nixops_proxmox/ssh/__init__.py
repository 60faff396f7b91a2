"""SSH to hosts whose keys are known before the first connection: keys, sessions, jobs, arguments."""
