-- The indexes of columns that an upgrade may have added. This runs last.

CREATE INDEX IF NOT EXISTS conversations_by_age ON conversations (updated_ms) WHERE retention_days IS NULL;
CREATE INDEX IF NOT EXISTS conversations_by_expiry ON conversations (updated_ms + retention_days * 86400000)
    WHERE retention_days > 0;
CREATE INDEX IF NOT EXISTS notes_by_user ON notes (user) WHERE user IS NOT NULL;
