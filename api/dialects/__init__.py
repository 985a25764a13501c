"""Translation and nothing else: a request body into ours, a job and its events into a dialect's answers."""
