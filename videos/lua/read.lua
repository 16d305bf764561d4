-- The numbers of videos of one shard now, and whether a user likes them.
--
-- KEYS     pending, claimed; then live of each video; then, where a user is given, liked of each video
-- ARGV     user ("" for nobody), then the videos
-- RETURNS  for each video: likes or nil, views or nil, "1:<ms>", "0:<ms>" or nil; nil is not known here
--
-- Guarantees: all of it is of one moment; a number is read, never added up.

local user = ARGV[1]
local videos = #ARGV - 1
local result = {}
for i = 1, videos do
  local live = redis.call('HMGET', KEYS[2 + i], 'likes', 'views')
  local liked = false
  if user ~= '' then
    local field = 'l:' .. ARGV[1 + i] .. ':' .. user
    liked = redis.call('HGET', KEYS[1], field) or redis.call('HGET', KEYS[2], field)
      or redis.call('GET', KEYS[2 + videos + i])
  end
  result[3 * i - 2] = live[1]
  result[3 * i - 1] = live[2]
  result[3 * i] = liked
end
return result
