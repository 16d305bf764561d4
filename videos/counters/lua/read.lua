-- Reads the totals of videos of one shard, and the marks of a user on them.
--
-- KEYS     pending, claimed, sums, claimed sums, batch; then live of each video; then, where a user is given, liked of each video
-- ARGV     user ("" for none), then the videos
-- RETURNS  for each video: each of COUNTS or nil, then the user's state ("1:<ms>") or nil, then last if live is gone
--          although something was pending, else nil; nil is unknown to Redis
--
-- Guarantees: everything is read at one moment; a total is one stored number, never a sum.

local user = ARGV[1]
local videos = #ARGV - 1
local result = {}
for i = 1, videos do
  local live = redis.call('HMGET', KEYS[5 + i], unpack(LIVE))
  local from = (WIDTH + 2) * (i - 1)
  for place = 1, WIDTH do
    result[from + place] = live[place]
  end
  local state = false
  if user ~= '' then
    local field = MARK .. ':' .. ARGV[1 + i] .. ':' .. user
    state = redis.call('HGET', KEYS[1], field) or redis.call('HGET', KEYS[2], field)
      or redis.call('GET', KEYS[5 + videos + i])
  end
  result[from + WIDTH + 1] = state
  result[from + WIDTH + 2] = not live[1]
    and (next(read_sums(KEYS[3], ARGV[1 + i])) or next(read_sums(KEYS[4], ARGV[1 + i])))
    and (redis.call('HGET', KEYS[5], 'last') or '0') or false
end
return result
