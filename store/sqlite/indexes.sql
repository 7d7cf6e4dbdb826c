-- The indexes and triggers of tables and columns that an upgrade may have added or replaced. This runs last.

CREATE INDEX IF NOT EXISTS conversations_by_age ON conversations (updated_ms) WHERE retention_days IS NULL;
CREATE INDEX IF NOT EXISTS conversations_by_expiry ON conversations (updated_ms + retention_days * 86400000)
    WHERE retention_days > 0;
CREATE INDEX IF NOT EXISTS conversations_pinned ON conversations (user, changed) WHERE pinned;
CREATE INDEX IF NOT EXISTS notes_by_user ON notes (user) WHERE user IS NOT NULL;

CREATE INDEX IF NOT EXISTS messages_by_time ON messages (conversation, n);
CREATE TRIGGER IF NOT EXISTS message_comes AFTER INSERT ON messages BEGIN
    UPDATE stored SET bytes = bytes + length(new.body) WHERE user = new.user;
END;
CREATE TRIGGER IF NOT EXISTS message_goes AFTER DELETE ON messages BEGIN
    UPDATE stored SET bytes = bytes - length(old.body) WHERE user = old.user;
END;
CREATE TRIGGER IF NOT EXISTS message_leaves_search AFTER DELETE ON messages BEGIN
    INSERT OR IGNORE INTO removed_messages (n) SELECT old.n FROM searches WHERE user = old.user AND old.n <= indexed;
END;

CREATE INDEX IF NOT EXISTS feedback_by_time ON feedback (at_ms, message);
