-- What all scripts share. Before it stand, made of videos/changes.py: COUNTS (the names of all counts), PENDING (the fields
-- of live that hold their pending sums), LIVE (both, one after the other), MARKS (the value of each mark and its place in
-- COUNTS), MARK (the letter of a mark's field).

local CHUNK = 1000  -- unpack fails near 8000 values

-- The value and the time in "1:<ms>"; nil and 0 where the text is none.
local function parse_state(text)
  local value, at = string.match(text or '', '^(%d+):(%d+)$')
  return value, tonumber(at or 0)
end

-- Starts the pending sums of a live key anew where a batch was claimed since they began, and says whether it did.
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
