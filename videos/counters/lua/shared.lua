-- What all scripts share. scripts.py puts constants before it, from COUNTS in videos/changes.py: COUNTS (all names),
-- PENDING (the fields of live with their pending sums), LIVE (COUNTS, then PENDING), MARKS (the value of each mark and
-- its place in COUNTS), MARK (the letter of a mark's pending field).

local CHUNK = 1000  -- unpack fails near 8000 values

-- The value and the time in "1:<ms>"; nil and 0 for any other text.
local function parse_state(text)
  local value, at = string.match(text or '', '^(%d+):(%d+)$')
  return value, tonumber(at or 0)
end

-- Sets the pending sums of a live key to zero if a batch was claimed since they began. Returns whether it did.
local function renew_pending(key, epoch, last)
  if epoch == last then
    return false
  end
  local zeros = {}
  for i, name in ipairs(PENDING) do
    zeros[2 * i - 1], zeros[2 * i] = name, 0
  end
  redis.call('HSET', key, 'epoch', last, unpack(zeros))
  return true
end

-- At maxmemory Redis checks memory only at a script's first write. A harmless HDEL first lets the rest pass: a flush is
-- what frees memory.
local function allow_writes_when_full(key)
  redis.call('HDEL', key, '')
end
