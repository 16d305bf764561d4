-- Notes that a user's like of a video changed lately: a hint for "my likes".
--
-- KEYS     recent, of the user's own slot
-- ARGV     now (Unix ms), video, seconds that it stays, how many videos are kept
-- RETURNS  nothing

redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
redis.call('EXPIRE', KEYS[1], ARGV[3])
