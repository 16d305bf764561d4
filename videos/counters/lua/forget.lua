-- Makes what Redis remembers of a video invalid, because the video is gone: another one may get its id.
--
-- KEYS     live, batch, sums, claimed sums
-- ARGV     seconds that this stays: no liked or seen key of before may live longer; video
-- RETURNS  nothing
--
-- Guarantees: liked keys with a stamp below `since`, seen keys with a stamp below `born`, and dated views up to the Unix
-- second `born_at`, do not count.

local stamp = redis.call('HINCRBY', KEYS[2], 'stamp', 1)
redis.call('DEL', KEYS[1])
forget_sums(KEYS[3], ARGV[2])
forget_sums(KEYS[4], ARGV[2])
redis.call('HSET', KEYS[1], 'since', stamp, 'born', stamp, 'born_at', redis.call('TIME')[1])
redis.call('EXPIRE', KEYS[1], ARGV[1])
