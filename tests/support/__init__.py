"""What several suites need: a real server, real processes, and ways to wait for what happens."""
