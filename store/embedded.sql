-- The embedded store's tables. `n` orders rows by insertion, so that pages are stable within one millisecond.

CREATE TABLE IF NOT EXISTS conversations (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    title TEXT NOT NULL,
    system TEXT,
    model TEXT,
    metadata BLOB NOT NULL,
    head TEXT,
    revision INTEGER NOT NULL,
    cleared_revision INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    messages INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    cost_nano INTEGER
);
CREATE INDEX IF NOT EXISTS conversations_by_change ON conversations (user, updated_ms, n);

CREATE TABLE IF NOT EXISTS messages (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    parent TEXT,
    role TEXT NOT NULL,
    turn TEXT,
    created_ms INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_by_time ON messages (conversation, n);

-- `conversation` is null for stateless turns, and for those whose conversation was deleted.
CREATE TABLE IF NOT EXISTS turns (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL,
    turn TEXT NOT NULL,
    conversation TEXT REFERENCES conversations (id) ON DELETE SET NULL,
    digest BLOB NOT NULL,
    request BLOB,
    epoch INTEGER NOT NULL,
    status TEXT NOT NULL,
    message TEXT NOT NULL,
    parent TEXT,
    model TEXT NOT NULL,
    seq INTEGER NOT NULL DEFAULT 1,
    revision INTEGER NOT NULL DEFAULT 0,
    ending BLOB,
    stateless_message BLOB,
    accepted_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    cost_nano INTEGER,
    UNIQUE (user, turn)
);
CREATE INDEX IF NOT EXISTS turns_unfinished ON turns (status) WHERE ending IS NULL;
CREATE INDEX IF NOT EXISTS turns_by_end ON turns (user, ended_ms);

CREATE TABLE IF NOT EXISTS feedback (
    message TEXT PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    user TEXT NOT NULL,
    rating TEXT NOT NULL,
    comment TEXT,
    at_ms INTEGER NOT NULL
);
