-- Makes a video's live key from what the caller has read from the database.
--
-- KEYS     live, batch; both of the video's shard
-- ARGV     seconds that live stays while nothing is pending, seconds that liked stays, owner, duration,
--          the total of each of COUNTS, deadline (Unix ms)
-- RETURNS  nothing; error LATE: the deadline has passed, nothing done
--
-- Guarantees:
-- - What an existing live key holds is left as it is: it is newer than what was read. Only a count that joined COUNTS after
--   the key was made is added.
-- - A video without marks gets unmarked_until (Unix seconds), a time before any liked key that is written from now on
--   expires: like.lua uses it. With it goes the number of the newest batch: see forgotten in claim.lua.

local late = too_late(time_ms(), ARGV[#ARGV])
if late then
  return late
end

local UNMARKED_MARGIN_SECONDS = 60

if redis.call('EXISTS', KEYS[1]) == 0 then
  local fields = {}
  for i = 1, WIDTH do
    for _, value in ipairs({ LIVE[i], ARGV[4 + i], LIVE[WIDTH + i], 0 }) do
      fields[#fields + 1] = value
    end
  end
  redis.call('HSET', KEYS[1], 'owner', ARGV[3], 'duration', ARGV[4], 'epoch', '-1', unpack(fields))
  local marked = false
  for _, place in pairs(MARKS) do
    marked = marked or ARGV[4 + place] ~= '0'
  end
  if not marked then
    redis.call('HSET', KEYS[1], 'unmarked_until', redis.call('TIME')[1] + ARGV[2] - UNMARKED_MARGIN_SECONDS,
      'unmarked_last', redis.call('HGET', KEYS[2], 'last') or '0')
  end
  redis.call('EXPIRE', KEYS[1], ARGV[1])
else
  for i = 1, WIDTH do
    redis.call('HSETNX', KEYS[1], LIVE[i], ARGV[4 + i])
    redis.call('HSETNX', KEYS[1], LIVE[WIDTH + i], 0)
  end
end
