-- Judges views of videos of one shard, and counts the new ones.
--
-- KEYS     pending, sums, batch; then for each event: live, seen, dated, and the caps: views of the video by the address,
--          of all videos by the address, of all videos by its network; pending stands for a key that an event lacks.
--          Where hashes have just changed (10 keys an event): seen and caps again, under the hashes of before
-- ARGV     seconds that live stays, seconds of the window, the limit of each cap in a window (0: none), seconds that must
--          be watched, seconds that dated stays, keys of an event (6 or 10); then for each event: video, hour (since 1970),
--          user ("" if signed out), seconds watched ("" if not reported), "1" for a bot, Unix seconds ("" if the view is
--          now); at the end the deadline (Unix ms)
-- RETURNS  for each event: code, views; the code is 0 new, 1 seen, 2 bot, 3 short, 4 owner, 5 address;
--          -1 nothing done, the video's totals are needed: prime.lua takes them, and the version, which stands instead of
--          views.
--          Error LATE: the deadline has passed, nothing done
--
-- Guarantees: only a new view counts; then seen, pending, its sum and the live total change together. A view above a cap
-- leaves no seen key. Keys of another video that had this id do not count. Events with a time of their own may come
-- in any order, and again: of one viewer, those that count are a window apart. Windows go on while hashes change.

local late = too_late(time_ms(), ARGV[#ARGV])
if late then
  return late
end
local live_ttl, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local limits = { tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]) }
local min_watched, dated_ttl, width = tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local NONE = KEYS[1]  -- stands for a key that an event lacks
local batch = redis.call('HMGET', KEYS[3], 'fence', 'last', 'meeting', 'stamp')
if not batch[1] then
  return unmet()
end
local last, stamp = batch[2] or '0', batch[4] or '0'
local results = {}

-- Whether a seen key with this stamp is of this video, not of another one that had its id.
local function counts(live, seen)
  return not live[5] or tonumber(seen) >= tonumber(live[5])
end

-- Whether this viewer is new in the window, of which so many seconds are left.
local function is_new(live, key, before, seconds)
  if before and before ~= NONE then
    local seen = redis.call('GET', before)
    if seen and counts(live, seen) then
      return false
    end
  end
  if redis.call('SET', key, stamp, 'NX', 'EX', seconds) then
    return true
  end
  if counts(live, redis.call('GET', key)) then
    return false
  end
  redis.call('SET', key, stamp, 'EX', seconds)
  return true
end

-- Adds a view to each cap of an event, whose first key is at this place of KEYS; whether one is above its limit.
local function is_capped(place)
  for cap = 1, 3 do
    local key = KEYS[place + cap - 1]
    if key ~= NONE and limits[cap] > 0 then
      if width == 10 and redis.call('EXISTS', KEYS[place + cap + 3]) == 1 then
        key = KEYS[place + cap + 3]  -- its window is open still
      end
      local views = redis.call('INCR', key)
      if views == 1 then
        redis.call('EXPIRE', key, window)
      elseif views > limits[cap] then
        return true
      end
    end
  end
  return false
end

local function judge(live, event)
  if event.bot == '1' then
    return 2
  end
  if event.user ~= '' and live[2] == event.user then
    return 4
  end
  if event.watched ~= '' then
    local enough, duration = min_watched, tonumber(live[3]) or 0
    if duration > 0 and duration / 2 < enough then
      enough = duration / 2
    end
    if tonumber(event.watched) < enough then
      return 3
    end
  end
  local at, left = tonumber(event.at), window  -- of the window that is open now
  if at then
    -- The window of an event is around its own time, so its memory lasts as long as events may be sent.
    local from = math.max(at - window, tonumber(live[6] or 0))
    local near = redis.call('ZRANGEBYSCORE', event.dated, '(' .. from, '(' .. at + window, 'LIMIT', 0, 1)
    if near[1] then
      return 1
    end
    left = math.min(window, at + window - redis.call('TIME')[1])
  end
  if left > 0 and not is_new(live, event.seen, event.before, left) then
    return 1
  end
  if is_capped(event.caps) then
    redis.call('DEL', event.seen)
    return 5
  end
  if at then
    redis.call('ZADD', event.dated, at, at)
    redis.call('EXPIRE', event.dated, dated_ttl)
  end
  return 0
end

local function count(live, event)
  local field = 'v:' .. event.video .. ':' .. event.hour
  local sum = redis.pcall('HINCRBY', KEYS[1], field, 1)
  if type(sum) == 'table' and sum.err then
    -- Another program wrote this field: it holds no number. Move it to a name that the flush rejects and reports.
    redis.call('HSET', KEYS[1], field .. '?', redis.call('HGET', KEYS[1], field))
    redis.call('HSET', KEYS[1], field, 1)
  end
  local views = tonumber(live[1]) + 1
  redis.call('HINCRBY', KEYS[2], 'views:' .. event.video, 1)
  redis.call('HSET', event.live, 'views', views)
  expire_live(event.live, live_ttl, live[7])
  return views
end

local key, arg = 4, 9
while KEYS[key] do
  local event = {
    live = KEYS[key], seen = KEYS[key + 1], dated = KEYS[key + 2], caps = key + 3,
    before = width == 10 and KEYS[key + 6],
    video = ARGV[arg], hour = ARGV[arg + 1], user = ARGV[arg + 2],
    watched = ARGV[arg + 3], bot = ARGV[arg + 4], at = ARGV[arg + 5],
  }
  key, arg = key + width, arg + 6
  local live = redis.call('HMGET', event.live, 'views', 'owner', 'duration', 'meeting', 'born', 'born_at', 'since')
  local code, views = -1, last .. ':' .. batch[1]
  if live[1] and live[4] == batch[3] then
    code = judge(live, event)
    views = code == 0 and count(live, event) or tonumber(live[1])
  end
  results[#results + 1] = code
  results[#results + 1] = views
end
return results
