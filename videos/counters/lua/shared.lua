-- What scripts share. scripts.py puts before a script the parts that it uses, and constants from COUNTS in
-- videos/changes.py: WIDTH (how many counts), LIVE (the fields of live with the totals of all counts),
-- MARKS (the value of each mark -> its place in COUNTS), MARK (the letter of a mark's pending field),
-- NEWEST (the last of LIVE: a live key that has it has all).

local CHUNK = 1000  -- unpack fails near 8000 values

-- A script of a request fails with this where Redis has met no database: it was emptied. A script of a flush fails with
-- it where another meeting took place since the flush began.
local function unmet()
  return redis.error_reply('UNMET Redis and the database have to meet first')
end

-- The value, the time, and the rest ("s<value>" of a pending field that stays, "b<batch>" after it if that batch postponed
-- it, the stamp of liked) in "1:<ms>:<rest>"; nil and 0 for any other text.
local function parse_state(text)
  local value, at, rest = string.match(text or '', '^(%d+):(%d+):?(%w*)$')
  return value, tonumber(at or 0), rest
end

-- The value that a pending field replaced: "s<value>" if it has that, else no mark, or a like where it takes a mark back.
local function base_of(value, stays)
  return string.match(stays, '^s(%d+)') or (value == '0' and '1' or '0')
end

-- Redis' time in Unix ms.
local function time_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The error with which a script ends after its deadline (Redis' time in Unix ms). The client has stopped waiting and may
-- have written to the rows: a script that acted now would undo what the user wished since.
local function too_late(time, deadline)
  return time > tonumber(deadline) and redis.error_reply('LATE the deadline of this script has passed')
end

-- How much of a video's totals is in a hash of sums: by place in COUNTS, nil for a count that was not changed.
local function read_sums(key, video)
  local names, sums = {}, {}
  for place = 1, WIDTH do
    names[place] = LIVE[place] .. ':' .. video
  end
  for place, sum in ipairs(redis.call('HMGET', key, unpack(names))) do
    sums[place] = sum and tonumber(sum) or nil
  end
  return sums
end

-- Removes a video from a hash of sums.
local function forget_sums(key, video)
  for place = 1, WIDTH do
    redis.call('HDEL', key, LIVE[place] .. ':' .. video)
  end
end

-- A total with more added to it, as text; never below zero, also where rows were made outside the service.
local function total_with(total, more)
  return string.format('%.0f', math.max(tonumber(total) + more, 0))
end

-- Sets how long a live key stays. With `since` it stays as long as before at least: the keys that this makes invalid must
-- not outlive it.
local function expire_live(key, ttl, since)
  redis.call('EXPIRE', key, since and math.max(ttl, redis.call('TTL', key)) or ttl)
end

-- Adds the sums of a video in one hash to those in another one, and removes them from the first.
local function move_sums(from, to, video)
  for place, sum in pairs(read_sums(from, video)) do
    redis.call('HINCRBY', to, LIVE[place] .. ':' .. video, sum)
  end
  forget_sums(from, video)
end

-- Moves a field of a batch back to pending; returns how many fields moved. The batch has postponed the field's video, but a
-- flush may have read the field before, and may apply it if the database was set back to before that. So the field keeps
-- the batch's number: a row whose watermark is not below it has the field. A mark stays, for the same reason.
local function put_back(claimed, pending, field, number)
  local value = redis.call('HGET', claimed, field)
  if not value then
    return 0
  end
  local older, at, stays = parse_state(value)
  if string.sub(field, 1, #MARK) ~= MARK and string.match(value, '^%d+$') then
    local name = string.match(field, '^%a+:%d+:%d+$') and field .. ':' .. number or field
    redis.call('HINCRBY', pending, name, value)
  elseif not older then
    redis.call('HSET', pending, field, value)  -- malformed: the next batch rejects it
  else
    local newer, newer_at = parse_state(redis.call('HGET', pending, field))
    local batch = newer and '' or string.match(stays, 'b%d+$') or 'b' .. number
    redis.call('HSET', pending, field,
      (newer or older) .. ':' .. string.format('%.0f', newer and newer_at or at) .. ':s' .. base_of(older, stays) .. batch)
  end
  return redis.call('HDEL', claimed, field)
end

-- At maxmemory Redis checks memory only at a script's first write. A harmless HDEL first lets the rest pass: a flush is
-- what frees memory.
local function allow_writes_when_full(key)
  redis.call('HDEL', key, '')
end

-- Moves all fields of a hash to another one.
local function move_fields(from, to)
  if redis.call('EXISTS', to) == 0 then
    if redis.call('EXISTS', from) == 1 then
      redis.call('RENAME', from, to)
    end
    return
  end
  local fields = redis.call('HGETALL', from)
  for first = 1, #fields, CHUNK do
    redis.call('HSET', to, unpack(fields, first, math.min(first + CHUNK - 1, #fields)))
  end
  redis.call('DEL', from)
end
