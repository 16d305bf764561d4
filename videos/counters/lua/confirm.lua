-- Removes fields that the database has committed from the claimed batch, and sets the live totals from the rows.
--
-- KEYS     claimed, batch, rejected, sums, done; then live of each video
-- ARGV     the flush's fence, number of the batch, seconds that live stays once nothing is pending; then for each video a
--          head: what to do with live ("1" set it, "0" delete it: the video is gone, "" leave it), the total of each of
--          COUNTS in its row, how many fields were applied, repeated, dropped, rejected; then the fields of all videos, in
--          this order
-- RETURNS  1; nil when the number is not that of the claimed batch
--
-- Guarantees:
-- - Each field is counted in the sums once, when it leaves claimed.
-- - Live is set only for videos of which this call removed a field, so a flush that confirms late does not overwrite
--   newer totals.
-- - It is exact then, so it is trusted, and no more primed if it was primed before the claim.
-- - A rejected field is set aside with the number of its batch. The others move to done, where they wait for a replay.

local number, settled_ttl = ARGV[2], tonumber(ARGV[3])
local batch = redis.call('HMGET', KEYS[2], 'fence', 'number', 'meeting')
if batch[1] ~= ARGV[1] then
  return unmet()
end
if batch[2] ~= number then
  return false
end
allow_writes_when_full(KEYS[2])

local OUTCOMES = { 'applied', 'repeated', 'dropped', 'rejected' }
local FIRST_HEAD, HEAD, FIRST_LIVE = 4, 1 + WIDTH + #OUTCOMES, 6
local first_field = FIRST_HEAD + (#KEYS - FIRST_LIVE + 1) * HEAD

-- One HMGET for many fields, because a call costs more than a field. A field that is named twice is counted once.
local there = {}
for from = first_field, #ARGV, CHUNK do
  local to = math.min(from + CHUNK - 1, #ARGV)
  for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, from, to))) do
    there[ARGV[from + i - 1]] = value
  end
end

local sums, moved, done = {}, {}, {}
local field = first_field
for video = FIRST_LIVE, #KEYS do
  local head, removed = FIRST_HEAD + (video - FIRST_LIVE) * HEAD, 0
  for i, outcome in ipairs(OUTCOMES) do
    for _ = 1, tonumber(ARGV[head + WIDTH + i]) do
      local name = ARGV[field]
      local value = there[name]
      if value then
        there[name] = nil
        removed = removed + 1
        sums[outcome] = (sums[outcome] or 0) + 1
        if outcome == 'rejected' then
          redis.call('HSET', KEYS[3], number .. ':' .. name, value)
        else
          done[#done + 1] = name
          done[#done + 1] = value
        end
      end
      field = field + 1
    end
  end
  if removed > 0 then
    moved[#moved + 1] = { KEYS[video], head }
  end
end

-- Removals and sums come before live: a live key with malformed values must not leave fields unaccounted for.
for from = first_field, #ARGV, CHUNK do
  redis.call('HDEL', KEYS[1], unpack(ARGV, from, math.min(from + CHUNK - 1, #ARGV)))
end
for from = 1, #done, CHUNK do
  redis.call('HSET', KEYS[5], unpack(done, from, math.min(from + CHUNK - 1, #done)))
end
for outcome, removed in pairs(sums) do
  redis.call('HINCRBY', KEYS[2], outcome, removed)
end

local function set_live(key, head)
  local live = redis.call('HMGET', key, 'meeting', 'primed', 'since', unpack(LIVE))
  if not live[1] then
    return
  end
  local pending = read_sums(KEYS[4], string.match(key, '%d+$'))
  local changed = {}
  for i = 1, WIDTH do
    local total_now = total_with(ARGV[head + i], pending[i] or 0)
    if live[3 + i] ~= total_now then
      changed[#changed + 1] = LIVE[i]
      changed[#changed + 1] = total_now
    end
  end
  if live[1] ~= batch[3] then
    changed[#changed + 1] = 'meeting'
    changed[#changed + 1] = batch[3]
    redis.call('HDEL', key, 'primed', 'unmarked_until')
  elseif live[2] and tonumber(number) > tonumber(live[2]) then
    redis.call('HDEL', key, 'primed')
  end
  if changed[1] then
    redis.call('HSET', key, unpack(changed))
  end
  if next(pending) == nil then
    expire_live(key, settled_ttl, live[3])
  end
end

for _, video in ipairs(moved) do
  local key, head = video[1], video[2]
  if ARGV[head] == '1' then
    set_live(key, head)
  elseif ARGV[head] == '0' then
    redis.call('DEL', key)
  end
end
return 1
