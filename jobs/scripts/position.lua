-- A waiting job's place in the fair order, roughly: before it run the jobs of its own user's line that are before it,
-- about as many of each other user in its lane (or all of theirs, if they have fewer), and, for a batch job, what waits
-- in the interactive lane.
-- KEYS  8 fair order
-- ARGV  1 job id  2 channel  3 lane  4 user's key  5 users looked at one by one; each further one counts as backlogged
-- Returns 1 for the next job, false when it does not wait. O(jobs its user has waiting + ARGV 5).
return fair.position(KEYS[8], ARGV[3], ARGV[4], ARGV[1], tonumber(ARGV[5]))
