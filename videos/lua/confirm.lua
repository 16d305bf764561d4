-- Removes from a claimed batch what the database has committed, and sets the live counts from the rows.
--
-- KEYS     claimed, batch, rejected; then live of each video
-- ARGV     number of the batch, seconds that live stays once nothing is pending; then for each video:
--          what to do with live ("1" set, "0" the video is gone, "" leave), likes and views in its row,
--          how many fields were applied, repeated, dropped, rejected; then these fields of all videos, in this order
-- RETURNS  fields removed; nil when the number is not that of the claimed batch
--
-- Guarantees: each field is accounted for once, in the moment in which it leaves claimed. Live is set only for a video of
-- which a field was really removed here: a later flusher's numbers are not overwritten by an earlier one's. A rejected
-- field is kept aside with the number of its batch.

local number, settled_ttl = ARGV[1], ARGV[2]
if redis.call('HGET', KEYS[2], 'number') ~= number then
  return false
end
-- A full Redis refuses a script's first write where it may need memory, none after another: a flush is what relieves it.
redis.call('HDEL', KEYS[2], '')

local CHUNK = 1000  -- unpack fails near 8000 values
local OUTCOMES = { 'applied', 'repeated', 'dropped', 'rejected' }
local FIRST_HEAD, HEAD = 3, 7
local first_field = FIRST_HEAD + (#KEYS - 3) * HEAD

-- Calls for many fields at once: a call costs more than a field. Each is there until it is taken: it may be named twice.
local there = {}
for from = first_field, #ARGV, CHUNK do
  local to = math.min(from + CHUNK - 1, #ARGV)
  for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, from, to))) do
    there[ARGV[from + i - 1]] = value
  end
end

local sums, moved, total = {}, {}, 0
local field = first_field
for video = 4, #KEYS do
  local head, removed = FIRST_HEAD + (video - 4) * HEAD, 0
  for i, outcome in ipairs(OUTCOMES) do
    for _ = 1, tonumber(ARGV[head + 2 + i]) do
      local name = ARGV[field]
      local value = there[name]
      if value then
        there[name] = nil
        removed = removed + 1
        sums[outcome] = (sums[outcome] or 0) + 1
        if outcome == 'rejected' then
          redis.call('HSET', KEYS[3], number .. ':' .. name, value)
        end
      end
      field = field + 1
    end
  end
  total = total + removed
  if removed > 0 then
    moved[#moved + 1] = { KEYS[video], head }
  end
end

-- All removals and their sums first: whatever happens to a live key, each field is accounted for.
for from = first_field, #ARGV, CHUNK do
  redis.call('HDEL', KEYS[1], unpack(ARGV, from, math.min(from + CHUNK - 1, #ARGV)))
end
for outcome, removed in pairs(sums) do
  redis.call('HINCRBY', KEYS[2], outcome, removed)
end

local function set_live(key, likes, views)
  local live = redis.call('HMGET', key, 'epoch', 'likes', 'views', 'likes_pending', 'views_pending')
  if not live[1] then
    return
  end
  local settled = live[1] ~= number
  if not settled then
    likes = string.format('%.0f', tonumber(likes) + tonumber(live[4]))
    views = string.format('%.0f', tonumber(views) + tonumber(live[5]))
  end
  if live[2] ~= likes or live[3] ~= views then
    redis.call('HSET', key, 'likes', likes, 'views', views)
  end
  if settled then
    redis.call('EXPIRE', key, settled_ttl)
  end
end

for _, video in ipairs(moved) do
  local key, head = video[1], video[2]
  if ARGV[head] == '1' then
    set_live(key, ARGV[head + 1], ARGV[head + 2])
  elseif ARGV[head] == '0' then
    redis.call('DEL', key)
  end
end
return total
