-- Version 5 had no retention, no search in messages, and ids of messages that no two users could share. `schema.sql` runs
-- before this, and `indexes.sql` after it.

ALTER TABLE conversations ADD COLUMN retention_days INTEGER;
ALTER TABLE notes ADD COLUMN user TEXT;

CREATE TEMP TABLE rated AS SELECT user, message, rating, comment, at_ms, model FROM feedback;
DROP TABLE feedback;
CREATE TABLE copied (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    user TEXT NOT NULL,
    conversation TEXT NOT NULL REFERENCES conversations (key) ON DELETE CASCADE,
    parent TEXT,
    role TEXT NOT NULL,
    turn TEXT,
    created_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (user, id)
);
INSERT INTO copied (n, id, user, conversation, parent, role, turn, created_ms, body)
    SELECT n, id, user, conversation, parent, role, turn, created_ms, body FROM messages ORDER BY n;
DROP TABLE messages;
ALTER TABLE copied RENAME TO messages;
CREATE TABLE feedback (
    message TEXT NOT NULL,
    user TEXT NOT NULL,
    rating TEXT NOT NULL,
    comment TEXT,
    at_ms INTEGER NOT NULL,
    model TEXT,
    PRIMARY KEY (user, message),
    FOREIGN KEY (user, message) REFERENCES messages (user, id) ON DELETE CASCADE
);
INSERT INTO feedback (user, message, rating, comment, at_ms, model)
    SELECT user, message, rating, comment, at_ms, model FROM rated;
DROP TABLE rated;
