"""A disk that outlives the machines that have it attached."""
