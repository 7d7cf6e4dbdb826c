-- Delete a conversation. Nothing finds its messages any more; `empty_trash` deletes them and the logs of its turns.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: conversation.
-- Returns {'ok', ids of its turns that still run, oldest first} or {'not_found', field}.
local p, key = KEYS[1], KEYS[1] .. 'conversation:' .. ARGV[1]
local member = redis.call('HGET', key, 'place')
if not member then
  return not_found('conversation')
end
local running = running_turns(p, 'active:' .. ARGV[1])
if redis.call('EXISTS', p .. 'messages:' .. ARGV[1]) == 1 then
  redis.call('RENAME', p .. 'messages:' .. ARGV[1], p .. 'trash:' .. member)
  redis.call('SADD', p .. 'trash', member)
end
if ARCHIVE then
  -- `deleted:` says so until the id is used again. Because of `removed:`, a read of the archive that began earlier doesn't
  -- bring the conversation back.
  redis.call('SET', p .. 'deleted:' .. ARGV[1], 1)
  redis.call('SET', p .. 'removed:' .. member, 1)
  count_archived(p, -1, -(redis.call('HGET', p .. 'sizes', ARGV[1]) or 0))
  redis.call('ZREM', p .. 'outbox', 'c:' .. member)
  redis.call('ZREM', p .. 'unmarked', member)
  mark(p, 'd:' .. member)
end
remove_conversation(p, member)
redis.call('SREM', p .. 'pinned', ARGV[1])
publish_change(p, ARGV[1])
redis.call('UNLINK', key, p .. 'active:' .. ARGV[1])
return {'ok', running}
