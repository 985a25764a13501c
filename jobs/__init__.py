"""What a job is, and its life from submit to its one final state: records, events, workers, recovery."""
