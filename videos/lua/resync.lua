-- Sets a video's live counts anew after its rows changed outside a batch. The caller holds the lock of the video's row.
--
-- KEYS     live, pending, claimed, batch; then liked of each user whose like changed
-- ARGV     last: the number of the newest batch as the caller knows it; "1", or "0" when the video is gone; likes, views,
--          owner and duration in its row; seconds that live stays, once settled, and that liked stays;
--          then for each user: pending field, state in the rows ("1" or "0"), when it was wished (Unix ms)
-- RETURNS  1 done; 0 nothing done: a batch is claimed, or was since
--
-- Guarantees: live is the row's counts plus what is pending. Between a wish written to the rows and one written here, the
-- later one stands: an older pending field goes, a newer wish of which no pending field is left gets one. It is done on a
-- full Redis too: likes that it refused were written to the rows, and there is no other end to the notes of them.

local batch = redis.call('HMGET', KEYS[4], 'last', 'open')
local last = batch[1] or '0'
if last ~= ARGV[1] or batch[2] == '1' or redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
-- Rows changed behind Redis' back: who is unknown may like the video. And see confirm.lua: a full Redis takes the writes
-- behind this one.
redis.call('HDEL', KEYS[1], 'unliked_until')
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  for i = 5, #KEYS do
    redis.call('DEL', KEYS[i])
  end
  return 1
end

local live = redis.call('HMGET', KEYS[1], 'epoch', 'likes_pending', 'views_pending')
local likes_pending, views_pending, unsettled = 0, 0, live[1] == last
if unsettled then
  likes_pending, views_pending = tonumber(live[2]), tonumber(live[3])
end

local function parse(value)
  local wish, at = string.match(value or '', '^([01]):(%d+)$')
  return wish, tonumber(at or 0)
end

local function step(wish)
  return wish == '1' and 1 or -1
end

for i = 5, #KEYS do
  local arg = 10 + (i - 5) * 3
  local field, row, noted = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
  local pending, pending_at = parse(redis.call('HGET', KEYS[2], field))
  local liked, liked_at = parse(redis.call('GET', KEYS[i]))
  local wish, at = pending or liked, math.max(pending_at, liked_at)
  if not wish or at <= tonumber(noted) then
    wish = row
    redis.call('SET', KEYS[i], row .. ':' .. noted, 'EX', ARGV[9])
  end
  if pending and wish == row then
    redis.call('HDEL', KEYS[2], field)
    likes_pending = likes_pending - step(pending)
  elseif not pending and wish ~= row then
    redis.call('HSET', KEYS[2], field, wish .. ':' .. string.format('%d', at))
    likes_pending = likes_pending + step(wish)
    unsettled = true
  end
end

if live[1] or unsettled then
  redis.call('HSET', KEYS[1], 'likes', tonumber(ARGV[3]) + likes_pending, 'views', tonumber(ARGV[4]) + views_pending,
    'owner', ARGV[5], 'duration', ARGV[6], 'epoch', unsettled and last or '-1',
    'likes_pending', likes_pending, 'views_pending', views_pending)
  redis.call('EXPIRE', KEYS[1], unsettled and ARGV[7] or ARGV[8])
end
return 1
