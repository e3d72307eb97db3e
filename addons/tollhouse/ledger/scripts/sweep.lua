-- ARGV: id, scopes, stream length, model, token, session, then field, value, ... of the record. A hold past its deadline becomes a
-- charge in full: its windows keep what it took. A place (a hold of no request) ends as by a release, and leaves no record. The
-- code, or its negative where it is held and its deadline has not passed.
local now, gap_from, gap_to = tick()
local id = ARGV[1]
local found, text = find(id)
if found ~= HELD then return found end
local deadline = call('ZSCORE', KEYS[3], id)
if not deadline or not overdue(tonumber(deadline), now, gap_from, gap_to) then return -found end
local hold = read_hold(text)
if hold.scopes ~= ARGV[2] then return redis.error_reply('SCOPES the hold was taken from ' .. hold.scopes) end
change({{mine = periods(now), 0, 0, 0, -1}}, false)
call('HDEL', KEYS[2], id)
call('ZREM', KEYS[3], id)
if hold[3] == 0 then
  mark_ended(id, now, true)
  return found
end
local today = floor(now / DAY_MS)
local model, session = add_sums(today, hold, ARGV[4], ARGV[5], ARGV[6])
call('HSET', KEYS[5], id, hold_text(hold.parts, hold.scopes, swept_text(today, model, ARGV[5], session)))
mark_ended(id, now)
call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[3], '*', 'settled_by', 'sweep', unpack(ARGV, 7))
return found
