-- Judges views of videos of one shard, and counts the new ones.
--
-- KEYS     pending, sums, batch; then for each event: live, seen, dated, and the caps: views of the video by the address,
--          of all videos by the address, of all videos by its network; pending stands for a key that an event lacks.
--          Where hashes have just changed (10 keys an event): seen and caps again, under the hashes of before
-- ARGV     seconds that live stays, seconds of the window, the limit of each cap in a window (0: none), seconds that must
--          be watched, seconds that dated stays, keys of an event (6 or 10), "1" if Redis has no memory for views of
--          anonymous viewers; then for each event: video, hour (since 1970), user ("" if signed out), seconds watched
--          ("" if not reported), "1" for a bot, Unix seconds ("" if the view is now); at the end the deadline (Unix ms)
-- RETURNS  for each event: code, views; the code is 0 new, 1 seen, 2 bot, 3 short, 4 owner, 5 address, 6 full;
--          -1 nothing done, the video's totals are needed: prime.lua takes them, and the version, which stands instead of
--          views.
--          Error LATE: the deadline has passed, nothing done
--
-- Guarantees: only a new view counts; then seen, pending, its sums and the live totals change together. The seconds that
-- were watched count with it, rounded, up to the video's duration. A view above a cap leaves no seen key, and a view that
-- is judged full writes nothing. Keys of another video that had this id do not count. Events with a time of their own may
-- come in any order, and again: of one viewer, those that count are a window apart. Windows go on while hashes change.

local KEYS, ARGV, call = KEYS, ARGV, redis.call  -- globals are looked up more slowly
local late = too_late(time_ms(), ARGV[#ARGV])
if late then
  return late
end
local live_ttl, window, width = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[8])
local full = ARGV[9] == '1'
local batch = call('HMGET', KEYS[3], 'fence', 'last', 'meeting', 'stamp')
if not batch[1] then
  return unmet()
end
local NONE = KEYS[1]  -- stands for a key that an event lacks
local stamp = batch[4] or '0'

-- Whether a seen key with this stamp is of this video, not of another one that had its id.
local function is_valid(live, seen)
  return not live[5] or tonumber(seen) >= tonumber(live[5])
end

-- Whether this viewer is new in the window, of which so many seconds are left. `before`: the seen key under the hashes of before.
local function is_new(live, key, before, seconds)
  local seen = before ~= NONE and call('GET', before)
  if seen and is_valid(live, seen) then
    return false
  end
  if call('SET', key, stamp, 'NX', 'EX', seconds) then
    return true
  end
  if is_valid(live, call('GET', key)) then
    return false
  end
  call('SET', key, stamp, 'EX', seconds)
  return true
end

-- Adds a view to a cap; whether it is above its limit. `before`: the cap under the hashes of before.
local function is_over(key, before, limit)
  if key == NONE or limit == '0' then
    return false
  end
  if before ~= NONE and call('EXISTS', before) == 1 then
    key = before  -- its window is open still
  end
  local views = call('INCR', key)
  if views == 1 then
    call('EXPIRE', key, window)
    return false
  end
  return views > tonumber(limit)
end

-- The code of the event whose first key and first argument are at these places.
local function judge(live, key, arg)
  local user, watched, at = ARGV[arg + 2], ARGV[arg + 3], tonumber(ARGV[arg + 5])
  if ARGV[arg + 4] == '1' then
    return 2
  end
  if user ~= '' and live[2] == user then
    return 4
  end
  if watched ~= '' then
    local enough, duration = tonumber(ARGV[6]), tonumber(live[3]) or 0
    if duration > 0 and duration / 2 < enough then
      enough = duration / 2
    end
    if tonumber(watched) < enough then
      return 3
    end
  end
  local seen, dated, left = KEYS[key + 1], KEYS[key + 2], window  -- left of the window that is open now
  if at then
    -- The window of an event is around its own time, so its memory lasts as long as events may be sent.
    local from = math.max(at - window, tonumber(live[6] or 0))
    local near = call('ZRANGEBYSCORE', dated, '(' .. from, '(' .. at + window, 'LIMIT', 0, 1)
    if near[1] then
      return 1
    end
    left = math.min(window, at + window - call('TIME')[1])
  end
  local before, of_video, of_address, of_network = NONE, NONE, NONE, NONE
  if width == 10 then
    before, of_video, of_address, of_network = KEYS[key + 6], KEYS[key + 7], KEYS[key + 8], KEYS[key + 9]
  end
  if full and user == '' then
    local known = left > 0 and (call('GET', seen) or (before ~= NONE and call('GET', before)))
    return known and is_valid(live, known) and 1 or 6
  end
  if left > 0 and not is_new(live, seen, before, left) then
    return 1
  end
  if is_over(KEYS[key + 3], of_video, ARGV[3])
    or is_over(KEYS[key + 4], of_address, ARGV[4])
    or is_over(KEYS[key + 5], of_network, ARGV[5])
  then
    call('DEL', seen)
    return 5
  end
  if at then
    call('ZADD', dated, at, at)
    call('EXPIRE', dated, ARGV[7])
  end
  return 0
end

-- Adds an amount to a pending field.
local function add(field, amount)
  local sum = redis.pcall('HINCRBY', KEYS[1], field, amount)
  if type(sum) == 'table' and sum.err then
    -- Another program wrote this field: it holds no number. Move it to a name that the flush rejects and reports.
    call('HSET', KEYS[1], field .. '?', call('HGET', KEYS[1], field))
    call('HSET', KEYS[1], field, amount)
  end
end

-- The whole seconds that count as watched: services/views.py has the same rule, for views that go to the rows.
local function seconds_of(watched, duration)
  return math.floor((duration > 0 and math.min(watched, duration) or watched) + 0.5)
end

-- Counts a view of a video in an hour; returns its views now.
local function count(live, key, video, hour, watched)
  local views, seconds = tonumber(live[1]) + 1, seconds_of(tonumber(watched) or 0, tonumber(live[3]) or 0)
  add('v:' .. video .. ':' .. hour, 1)
  call('HINCRBY', KEYS[2], 'views:' .. video, 1)
  if seconds > 0 then
    add('w:' .. video .. ':' .. hour, seconds)
    call('HINCRBY', KEYS[2], 'watched:' .. video, seconds)
    call('HSET', key, 'views', views, 'watched', tonumber(live[8]) + seconds)
  else
    call('HSET', key, 'views', views)
  end
  expire_live(key, live_ttl, live[7])
  return views
end

local results = {}
local key, arg = 4, 10
while KEYS[key] do
  local live = call('HMGET', KEYS[key], 'views', 'owner', 'duration', 'meeting', 'born', 'born_at', 'since', 'watched', NEWEST)
  local code, views = -1, nil
  if live[9] and live[4] == batch[3] then
    code = judge(live, key, arg)
    views = code == 0 and count(live, KEYS[key], ARGV[arg], ARGV[arg + 1], ARGV[arg + 3]) or tonumber(live[1])
  else
    views = (batch[2] or '0') .. ':' .. batch[1]
  end
  results[#results + 1] = code
  results[#results + 1] = views
  key, arg = key + width, arg + 6
end
return results
