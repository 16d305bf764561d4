-- Takes a video's counts, which the caller has read from the database.
--
-- KEYS     live, batch; both of the video's shard
-- ARGV     seconds that live stays while nothing is pending, seconds that liked stays, likes, views, owner, duration
-- RETURNS  nothing
--
-- Guarantees: what Redis knows already stays; it is newer than what was read. A video without likes gets unliked_until
-- (Unix seconds), which ends before any liked key that is written from now on: a new video's first likes, most of all
-- likes, ask the database nothing. With it goes the number of the newest batch: see forgotten in claim.lua.

local UNLIKED_MARGIN_SECONDS = 60

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'likes', ARGV[3], 'views', ARGV[4], 'owner', ARGV[5], 'duration', ARGV[6],
    'epoch', '-1', 'likes_pending', 0, 'views_pending', 0)
  if ARGV[3] == '0' then
    redis.call('HSET', KEYS[1], 'unliked_until', redis.call('TIME')[1] + ARGV[2] - UNLIKED_MARGIN_SECONDS,
      'unliked_last', redis.call('HGET', KEYS[2], 'last') or '0')
  end
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
