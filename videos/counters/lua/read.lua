-- Reads the totals of videos of one shard, and the marks of a user on them.
--
-- KEYS     pending, claimed, sums, claimed sums, batch; then live of each video; then, where a user is given, liked of each video
-- ARGV     user ("" for none), then the videos
-- RETURNS  for each video: each of COUNTS or nil, then the user's state ("1:<ms>...") or nil, then the version if live is
--          gone although something was pending, else nil; nil is unknown to Redis
--
-- Guarantees: everything is read at one moment; a total is one stored number, never a sum; what is not trusted since the
-- last meeting is unknown.

local batch = redis.call('HMGET', KEYS[5], 'fence', 'last', 'meeting', 'forgotten')
if not batch[1] then
  return unmet()
end
local user = ARGV[1]
local videos = #ARGV - 1
local result = {}
for i = 1, videos do
  local live = redis.call('HMGET', KEYS[5 + i], 'meeting', 'since', unpack(LIVE))
  local trusted = live[1] == batch[3]
  local from = (WIDTH + 2) * (i - 1)
  for place = 1, WIDTH do
    result[from + place] = trusted and live[2 + place]
  end
  local state = false
  if user ~= '' then
    local field = MARK .. ':' .. ARGV[1 + i] .. ':' .. user
    state = redis.call('HGET', KEYS[1], field) or redis.call('HGET', KEYS[2], field)
    if not state then
      state = redis.call('GET', KEYS[5 + videos + i])
      local _, _, stamp = parse_state(state)
      state = (tonumber(stamp) or -1) >= math.max(tonumber(batch[4] or 0), tonumber(live[2] or 0)) and state
    end
  end
  result[from + WIDTH + 1] = state
  result[from + WIDTH + 2] = not (trusted and live[3])
    and (next(read_sums(KEYS[3], ARGV[1 + i])) or next(read_sums(KEYS[4], ARGV[1 + i])))
    and (batch[2] or '0') .. ':' .. batch[1] or false
end
return result
