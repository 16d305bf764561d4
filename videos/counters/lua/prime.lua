-- Makes a video's live key from what the caller has read from the database.
--
-- KEYS     live, batch, sums, claimed sums, lives; all of the video's shard
-- ARGV     seconds that live stays while nothing is pending, seconds that liked stays, owner, duration,
--          video, its watermark, last before the row was read, the total of each of COUNTS, deadline (Unix ms)
-- RETURNS  nothing; error LATE: the deadline has passed, nothing done
--
-- Guarantees:
-- - Live is what was read, plus what the claimed batch moves if the watermark says that the row lacks it, plus what is
--   pending. So a live key may expire at any time. Nothing is made if a batch was claimed since the row was read.
-- - What an existing live key holds is left as it is: it is newer than what was read. Only a count that joined COUNTS after
--   the key was made is added.
-- - A video without marks, also pending ones, gets unmarked_until (Unix seconds), a time before any liked key that is
--   written from now on expires: like.lua uses it. With it goes the number of the newest batch: see forgotten in claim.lua.

local late = too_late(time_ms(), ARGV[#ARGV])
if late then
  return late
end

local UNMARKED_MARGIN_SECONDS = 60

if redis.call('EXISTS', KEYS[1]) == 0 then
  local batch = redis.call('HMGET', KEYS[2], 'number', 'last')
  if (batch[2] or '0') ~= ARGV[7] then
    return
  end
  local pending, claimed = read_sums(KEYS[3], ARGV[5]), {}
  if tonumber(ARGV[6]) < tonumber(batch[1] or 0) then
    claimed = read_sums(KEYS[4], ARGV[5])
  end
  local fields = {}
  for i = 1, WIDTH do
    fields[2 * i - 1] = LIVE[i]
    fields[2 * i] = total_with(ARGV[7 + i], (pending[i] or 0) + (claimed[i] or 0))
  end
  redis.call('HSET', KEYS[1], 'owner', ARGV[3], 'duration', ARGV[4], unpack(fields))
  local marked = false
  for _, place in pairs(MARKS) do
    marked = marked or ARGV[7 + place] ~= '0' or pending[place] or claimed[place]
  end
  if not marked then
    redis.call('HSET', KEYS[1], 'unmarked_until', redis.call('TIME')[1] + ARGV[2] - UNMARKED_MARGIN_SECONDS,
      'unmarked_last', batch[2] or '0')
  end
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  redis.call('SADD', KEYS[5], ARGV[5])
else
  for i = 1, WIDTH do
    redis.call('HSETNX', KEYS[1], LIVE[i], ARGV[7 + i])
  end
end
