-- Makes a video's live key from what the caller has read from the database.
--
-- KEYS     live, batch, sums, claimed sums, lives; all of the video's shard
-- ARGV     seconds that live stays until it is written to, seconds that liked stays, owner, duration, video, its watermark,
--          the version that a script told before the row was read, the total of each of COUNTS, deadline (Unix ms)
-- RETURNS  nothing; error LATE: the deadline has passed, nothing done
--
-- Guarantees:
-- - Live is what was read, plus what the claimed batch moves if the watermark says that the row lacks it, plus what is
--   pending. So a live key may expire at any time. Nothing is made if a batch was claimed, or another
--   meeting took place, since the row was read.
-- - The key is primed until a batch that is claimed after now is confirmed: see like.lua.
-- - What a trusted live key holds is left as it is: it is newer than what was read. Only a count that joined COUNTS after
--   the key was made is added.
-- - A video without marks, also pending ones, gets unmarked_until (Unix seconds), a time before any liked key that is
--   written from now on expires: like.lua uses it.

local late = too_late(time_ms(), ARGV[#ARGV])
if late then
  return late
end

local UNMARKED_MARGIN_SECONDS = 60

local batch = redis.call('HMGET', KEYS[2], 'fence', 'last', 'meeting', 'number')
if not batch[1] then
  return unmet()
end
local last = batch[2] or '0'
local live = redis.call('HMGET', KEYS[1], 'meeting', LIVE[1], 'since', 'born', 'born_at')
if live[1] == batch[3] and live[2] then
  for i = 1, WIDTH do
    redis.call('HSETNX', KEYS[1], LIVE[i], ARGV[7 + i])
  end
  return
end
if last .. ':' .. batch[1] ~= ARGV[7] then
  return
end

local pending, claimed = read_sums(KEYS[3], ARGV[5]), {}
if tonumber(ARGV[6]) < tonumber(batch[4] or 0) then
  claimed = read_sums(KEYS[4], ARGV[5])
end
local fields = { 'owner', ARGV[3], 'duration', ARGV[4], 'meeting', batch[3], 'primed', last }
local function add(name, value)
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
for i = 1, WIDTH do
  add(LIVE[i], total_with(ARGV[7 + i], (pending[i] or 0) + (claimed[i] or 0)))
end
local marked = false
for _, place in pairs(MARKS) do
  marked = marked or ARGV[7 + place] ~= '0' or pending[place] or claimed[place]
end
if not marked then
  add('unmarked_until', string.format('%.0f', redis.call('TIME')[1] + ARGV[2] - UNMARKED_MARGIN_SECONDS))
end
local ttl = tonumber(ARGV[1])
if live[3] then  -- what forget.lua or resync.lua left: it must outlive the keys that it makes invalid
  add('since', live[3])
  ttl = math.max(ttl, redis.call('TTL', KEYS[1]))
end
if live[4] then
  add('born', live[4])
  add('born_at', live[5] or 0)
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('EXPIRE', KEYS[1], ttl)
redis.call('SADD', KEYS[5], ARGV[5])
