-- ARGV: id, nano-usd, tokens, requests, scopes, "settle" or "release", stream length, model, token,
-- session, when it was first tried (in milliseconds; empty: now), then field, value, ... of the record.
-- Replaces what was held by what it came to: it fills the hold's windows in their order, each up to
-- what was held there, and what is more goes to the last; may pass a limit. The code, or its
-- negative where it may have been told before and be forgotten.
local now = tick()
local id, release, tried = ARGV[1], ARGV[6] == 'release', tonumber(ARGV[11])
local actual = {tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), 0}
local found, text = find(id)
if found == ENDED then return found end
local free = actual[1] == 0 and actual[2] == 0
-- An hour less than its id is kept.
local sure = (free and FREE_MS or DAY_MS) - HOUR_MS
if found == UNKNOWN and not release and tried and now - tried >= sure then return -found end

local today = floor(now / DAY_MS)
-- What the record of a sweep named, of which day and model, where this one takes it back.
local corrects = {}
if text then
  local hold = read_hold(text)
  if hold.scopes ~= ARGV[5] then return redis.error_reply('SCOPES the hold was taken from ' .. hold.scopes) end
  free = free and found == HELD and hold[1] == 0 and hold[2] == 0
  local left, deltas = {actual[1], actual[2], actual[3]}, {}
  for p, part in ipairs(hold.parts) do
    local delta = {mine = periods(part.at), 0, 0, 0, p == 1 and found == HELD and -1 or 0}
    for u = 1, 3 do
      local gets = p == #hold.parts and left[u] or math.min(left[u], part[u])
      left[u] = left[u] - gets
      delta[u] = gets - part[u]
    end
    deltas[p] = delta
  end
  change(deltas, false)
  if found == HELD then
    call('HDEL', KEYS[2], id)
    call('ZREM', KEYS[3], id)
    if not release then add_sums(today, actual, ARGV[8], ARGV[9], ARGV[10]) end
  else
    local added = tonumber(call('HGET', KEYS[5], id .. '+') or 0)
    call('HDEL', KEYS[5], id, id .. '+')
    -- Taken back from where the sweep booked it: the call may have been served by another model, or have cost nothing.
    local day, model, token, session = read_swept(hold.rest)
    corrects = {'corrects_nano_usd', fmt('%.0f', hold[1] - added), 'corrects_day', fmt('%.0f', day), 'corrects_model', model}
    add_sums(day, {0 - hold[1], 0 - hold[2], 0 - hold[3]}, model, token, session)
    if not release then add_sums(day, actual, ARGV[8], ARGV[9], ARGV[10]) end
  end
elseif not release then
  actual.mine = periods(now)
  change({actual}, true)
  add_sums(today, actual, ARGV[8], ARGV[9], ARGV[10])
end
mark_ended(id, now, free and text and not release)
if not release or found == SWEPT then
  local by = ({[HELD] = 'hold', [SWEPT] = 'late', [UNKNOWN] = 'no_hold'})[found]
  local added = {'XADD', KEYS[6], 'MAXLEN', '~', ARGV[7], '*', 'settled_by', by, unpack(corrects)}
  for n = 12, #ARGV do added[#added + 1] = ARGV[n] end
  call(unpack(added))
end
return found
