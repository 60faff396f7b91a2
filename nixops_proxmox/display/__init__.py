"""A program's two streams: results, progress, questions, errors as exit statuses. For the doors that are programs."""
