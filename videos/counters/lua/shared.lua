-- What scripts share. scripts.py puts before a script the parts that it uses, and constants from COUNTS in
-- videos/changes.py: WIDTH (how many counts), LIVE (the fields of live: the totals of all counts, then their pending sums),
-- MARKS (the value of each mark -> its place in COUNTS), MARK (the letter of a mark's pending field).

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
