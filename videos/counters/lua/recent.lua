-- Notes that a user has just marked a video. "My likes" looks here for likes whose rows the flush has not written yet.
--
-- KEYS     recent, of the user's own slot
-- ARGV     now (Unix ms), video, seconds that it stays
-- RETURNS  nothing

redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
