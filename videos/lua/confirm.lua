-- Takes from a claimed batch what the database has committed, and sets the live counts anew.
--
-- KEYS     claimed, batch, rejected; then live of each video
-- ARGV     number of the batch, seconds that live stays once nothing is pending; then for each video:
--          what to do with live ("1" set, "0" the video is gone, "" leave), likes and views in its row,
--          how many fields were applied, repeated, dropped, rejected; then these fields in this order
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
local arg, total = 3, 0
local sums = {}

local function remove(first, count, outcome)
  local removed = 0
  for from = first, first + count - 1, CHUNK do
    local to = math.min(from + CHUNK, first + count) - 1
    if outcome == 'rejected' then
      for i = from, to do
        local value = redis.call('HGET', KEYS[1], ARGV[i])
        if value then
          redis.call('HSET', KEYS[3], number .. ':' .. ARGV[i], value)
        end
      end
    end
    removed = removed + redis.call('HDEL', KEYS[1], unpack(ARGV, from, to))
  end
  if removed > 0 then
    sums[outcome] = (sums[outcome] or 0) + removed
  end
  return removed
end

local function set_live(key, likes, views)
  local live = redis.call('HMGET', key, 'epoch', 'likes_pending', 'views_pending')
  if not live[1] then
    return
  end
  if live[1] == number then
    redis.call('HSET', key, 'likes', tonumber(likes) + tonumber(live[2]), 'views', tonumber(views) + tonumber(live[3]))
  else
    redis.call('HSET', key, 'likes', likes, 'views', views)
    redis.call('EXPIRE', key, settled_ttl)
  end
end

-- All removals and their sums first: whatever happens to a live key, each field is accounted for.
local moved = {}
for video = 4, #KEYS do
  local head, field, removed = arg, arg + 7, 0
  for i, outcome in ipairs(OUTCOMES) do
    local count = tonumber(ARGV[head + 2 + i])
    if count > 0 then
      removed = removed + remove(field, count, outcome)
      field = field + count
    end
  end
  arg = field
  total = total + removed
  if removed > 0 then
    moved[#moved + 1] = { KEYS[video], head }
  end
end
for outcome, removed in pairs(sums) do
  redis.call('HINCRBY', KEYS[2], outcome, removed)
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
