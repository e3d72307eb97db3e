-- ARGV: id, nano-usd, tokens, requests, scopes, "settle" or "release", stream length, model, token, when it was first tried (in
-- milliseconds; empty: now), then field, value, ... of the record. Replaces what was held by what it came to, in the hold's own
-- windows; may pass a limit. The code, or its negative where it may have been told before and be forgotten.
local now = tick()
local id, release, tried = ARGV[1], ARGV[6] == 'release', tonumber(ARGV[10])
local actual = {tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), 0}
local found, text = find(id)
if found == ENDED then return found end
if found == UNKNOWN and not release and tried and now - tried >= SURE_MS then return -found end

local today = floor(now / DAY_MS)
if text then
  local hold = read_hold(text)
  if hold.scopes ~= ARGV[5] then return redis.error_reply('SCOPES the hold was taken from ' .. hold.scopes) end
  local delta = {actual[1] - hold[1], actual[2] - hold[2], actual[3] - hold[3], found == HELD and -1 or 0}
  change(periods(hold.created), delta, false)
  if found == HELD then
    call('HDEL', KEYS[2], id)
    call('ZREM', KEYS[3], id)
    if not release then add_sums(today, actual, ARGV[8], ARGV[9]) end
  else
    call('HDEL', KEYS[5], id)
    -- Taken back from where the sweep booked it: the call may have been served by another model, or have cost nothing.
    local day, model, token = read_swept(hold.rest)
    add_sums(day, {0 - hold[1], 0 - hold[2], 0 - hold[3]}, model, token)
    if not release then add_sums(day, actual, ARGV[8], ARGV[9]) end
  end
elseif not release then
  change(periods(now), actual, true)
  add_sums(today, actual, ARGV[8], ARGV[9])
end
mark_ended(id, now)
if not release or found == SWEPT then
  local by = ({[HELD] = 'hold', [SWEPT] = 'late', [UNKNOWN] = 'no_hold'})[found]
  call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[7], '*', 'settled_by', by, unpack(ARGV, 11))
end
return found
