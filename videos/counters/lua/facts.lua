-- Writes owners and durations, as they are in the rows, to live keys.
--
-- KEYS     lives; then live of each video
-- ARGV     for each video: its id, owner, duration; owner is "" if the row is gone
-- RETURNS  the ids of videos that have a live key although their row is gone
--
-- Guarantees: a video without a live key leaves lives. No live key is made or removed, and no total is changed.

local gone = {}
for i = 2, #KEYS do
  local arg = 3 * (i - 2)
  local video, owner, duration = ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3]
  local live = redis.call('HMGET', KEYS[i], 'owner', 'duration')
  if not live[1] then
    redis.call('SREM', KEYS[1], video)
  elseif owner == '' then
    gone[#gone + 1] = video  -- its text: Lua's numbers are exact up to 2^53 only
  elseif live[1] ~= owner or live[2] ~= duration then
    redis.call('HSET', KEYS[i], 'owner', owner, 'duration', duration)
  end
end
return gone
