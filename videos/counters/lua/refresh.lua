-- Writes an edited video's owner and duration to its live key, if there is one.
--
-- KEYS     live
-- ARGV     owner, duration
-- RETURNS  nothing

if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'duration', ARGV[2])
end
