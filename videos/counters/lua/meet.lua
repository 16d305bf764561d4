-- Notes that this run of Redis has met the database. The first script of a run; videos/meeting.py tells the rules.
--
-- KEYS     pending, claimed, batch, closed, done of the open batch, done of the first newer batch, sums, claimed sums
-- ARGV     run id, fence, "1" if live and liked of before are invalid in any case, "1" if the database lost a batch that is no
--          longer kept; of the batches of the database that are newer than last: the first ("0" if there is none), "1" if
--          that is finished, the newest; last, as the database was asked about it; how many videos the open batch postponed; these; those that the first newer one did
-- RETURNS  1 if Redis is behind, else 0; error UNMET: last is another by now, nothing done
--
-- Guarantees:
-- - It acts on newer batches where last is below them: once, whether or not the run is another. A flush that has claimed one of
--   them since the database was read has raised last.
-- - Live from before a run, or from before a fence that another Redis got, is not trusted.
-- - `meeting` is the stamp of live keys that are trusted; `forgotten` is that of liked keys.
-- - Newer batches exist: Redis is behind. A batch that is open here is complete in the database, so it is closed. The first
--   newer batch N covers what is pending. N is finished: pending is kept as done, for when the database is set back, too.
--   N is unfinished, so it is the newest: pending becomes the open batch N, and the rows' watermark decides.
-- - What a batch postponed is not covered by it, so it is pending, under the number of that batch: see put_back.
-- - Where the database was set back, rows may lack what the batch that was claimed last moved, and have lost it for good. Its
--   sums go, unless it is open: prime.lua would add them.
-- - A batch that the database lost, and Redis no longer keeps, is no batch's previous.

local run, fence, n = ARGV[1], tonumber(ARGV[2]), ARGV[5]
local batch = redis.call('HMGET', KEYS[3], 'fence', 'met', 'number', 'open', 'previous', 'tail', 'last')
local tail, previous = batch[6] or '0', batch[5] or '0'
local last = tonumber(batch[7] or 0)
local behind = last < tonumber(ARGV[7])
if behind and last ~= tonumber(ARGV[8]) then
  return unmet()
end
allow_writes_when_full(KEYS[3])
local is_new = batch[2] ~= run or fence > tonumber(batch[1] or 0)
fence = string.format('%.0f', math.max(fence, tonumber(batch[1] or 0)))
redis.call('HSET', KEYS[3], 'fence', fence)

if ARGV[3] == '1' then
  redis.call('HSET', KEYS[3], 'meeting', fence, 'forgotten', redis.call('HINCRBY', KEYS[3], 'stamp', 1))
  if batch[4] ~= '1' then
    redis.call('DEL', KEYS[8])
  end
end
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[3], 'lost', 1)
  if redis.call('HEXISTS', KEYS[4], tail) == 0 then
    tail = '0'
    redis.call('HSET', KEYS[3], 'tail', tail)
  end
  if redis.call('HEXISTS', KEYS[4], previous) == 0 then
    previous = '0'
    redis.call('HSET', KEYS[3], 'previous', previous, 'rewound', 1)
  end
end
if not is_new and not behind then
  return 0
end

redis.call('HSET', KEYS[3], 'met', run, 'meeting', fence)
local now = string.format('%.0f', time_ms())
local closed = redis.call('HGETALL', KEYS[4])
for i = 1, #closed, 2 do  -- Redis may have forgotten that a replay renewed it
  redis.call('HSET', KEYS[4], closed[i], now .. string.match(closed[i + 1], ':%d+$'))
end
if not behind then
  return 0
end

-- Moves fields of these videos from claimed to pending.
local function postpone(first, last, number)
  local videos = {}
  for i = first, last do
    videos[ARGV[i]] = true
    move_sums(KEYS[8], KEYS[7], ARGV[i])
  end
  for _, field in ipairs(next(videos) and redis.call('HKEYS', KEYS[2]) or {}) do
    if videos[string.match(field, '^%a+:(%d+)')] then
      put_back(KEYS[2], KEYS[1], field, number)
    end
  end
end

local last_back = 9 + tonumber(ARGV[9])
if batch[4] == '1' then
  postpone(10, last_back, batch[3])
  move_fields(KEYS[2], KEYS[5])
  redis.call('HSET', KEYS[4], batch[3], now .. ':' .. previous)
  tail = batch[3]
end
redis.call('DEL', KEYS[2], KEYS[6], KEYS[8])
move_fields(KEYS[1], KEYS[2])
move_fields(KEYS[7], KEYS[8])
redis.call('HSET', KEYS[3], 'last', ARGV[7], 'forgotten', redis.call('HINCRBY', KEYS[3], 'stamp', 1), 'lost', 1)
if ARGV[6] == '1' then
  postpone(last_back + 1, #ARGV, n)
  move_fields(KEYS[2], KEYS[6])
  redis.call('DEL', KEYS[8])
  redis.call('HDEL', KEYS[3], 'open')
  redis.call('HSET', KEYS[3], 'tail', n)
  redis.call('HSET', KEYS[4], n, now .. ':' .. tail)
else
  redis.call('HSET', KEYS[3], 'number', n, 'open', 1, 'fields', redis.call('HLEN', KEYS[2]), 'rewound', 1, 'claimed_at',
    now, 'previous', tail, 'tail', tail, 'applied', 0, 'repeated', 0, 'dropped', 0, 'rejected', 0)
end
return 1
