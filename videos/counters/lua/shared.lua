-- What scripts share. scripts.py puts before a script the parts that it uses, and constants from COUNTS in
-- videos/changes.py: WIDTH (how many counts), LIVE (the fields of live: the totals of all counts, then their pending sums),
-- MARKS (the value of each mark -> its place in COUNTS), MARK (the letter of a mark's pending field).

local CHUNK = 1000  -- unpack fails near 8000 values

-- The value and the time in "1:<ms>"; nil and 0 for any other text.
local function parse_state(text)
  local value, at = string.match(text or '', '^(%d+):(%d+)$')
  return value, tonumber(at or 0)
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

-- Sets the pending sums of a live key to zero if a batch was claimed since they began. Returns whether it did.
local function renew_pending(key, epoch, last)
  if epoch == last then
    return false
  end
  local zeros = {}
  for place = 1, WIDTH do
    zeros[2 * place - 1], zeros[2 * place] = LIVE[WIDTH + place], 0
  end
  redis.call('HSET', key, 'epoch', last, unpack(zeros))
  return true
end

-- At maxmemory Redis checks memory only at a script's first write. A harmless HDEL first lets the rest pass: a flush is
-- what frees memory.
local function allow_writes_when_full(key)
  redis.call('HDEL', key, '')
end
