-- Version 4 had ids that no two users could share, ordered conversations by the clock, and had no model in its feedback.
-- `schema.sql` runs before this.

ALTER TABLE conversations RENAME COLUMN id TO key;
ALTER TABLE conversations ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE TEMP TABLE places (n INTEGER PRIMARY KEY, place INTEGER NOT NULL);
INSERT INTO places SELECT n, row_number() OVER (PARTITION BY user ORDER BY updated_ms, n) FROM conversations;
UPDATE conversations SET id = key, changed = (SELECT place FROM places WHERE places.n = conversations.n);
DROP TABLE places;
DROP INDEX conversations_by_change;
CREATE INDEX conversations_by_change ON conversations (user, changed);
CREATE UNIQUE INDEX conversations_by_id ON conversations (user, id);

ALTER TABLE feedback ADD COLUMN model TEXT;
UPDATE feedback SET model = (
    SELECT json_extract(CAST(body AS TEXT), '$.model') FROM messages
    WHERE messages.id = feedback.message AND json_valid(CAST(body AS TEXT))
);
